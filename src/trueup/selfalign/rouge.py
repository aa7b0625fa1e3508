"""ROUGE-L: how much of two texts is a common subsequence of words, and a filter for texts that are new.

    P = LCS(a, b) / |a|     R = LCS(a, b) / |b|     F₁ = 2 P R / (P + R) = 2 LCS(a, b) / (|a| + |b|)

(Lin 2004, section 3, with β = 1.) The longest common subsequence is counted by bit-parallel steps, one big
integer for a whole row of the table (Hyyrö 2004).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import final

from trueup.data.words import words

THRESHOLD = 0.7
"Above this F₁ a new instruction is too like a kept one (Wang et al. 2023; the comparison is strict)."


def common(a: Sequence[str], b: Sequence[str]) -> int:
    """The length of a longest common subsequence."""
    places: dict[str, int] = {}
    for place, word in enumerate(a):
        places[word] = places.get(word, 0) | 1 << place
    full = (1 << len(a)) - 1
    row = full
    for word in b:
        matched = row & places.get(word, 0)
        row = ((row + matched) | (row - matched)) & full
    return len(a) - row.bit_count()


def rouge_l(a: Sequence[str], b: Sequence[str]) -> float:
    """F₁ of two lists of words; 0 where one of them is empty."""
    return 2 * common(a, b) / (len(a) + len(b)) if a and b else 0.0


@final
class Pool:
    """Texts that were kept, and whether a further one is new among them."""

    def __init__(self, texts: Iterable[str] = (), threshold: float = THRESHOLD) -> None:
        self.threshold = threshold
        self._kept: dict[tuple[str, ...], frozenset[str]] = {}
        for text in texts:
            self.add(text)

    def add(self, text: str) -> None:
        """Nothing; the text is among those kept."""
        found = words(text)
        self._kept[found] = frozenset(found)

    def refusal(self, text: str) -> str:
        """Why the text is not new, or "": `repeated` word for word, `similar` with F₁ above the threshold."""
        mine = words(text)
        if mine in self._kept:
            return "repeated"
        return "similar" if any(self._close(mine, other) for other in self._kept) else ""

    def _close(self, mine: tuple[str, ...], other: tuple[str, ...]) -> bool:
        total = len(mine) + len(other)
        # F₁ is at most what the shorter text, or the words of mine that the other has at all, allow.
        if 2 * min(len(mine), len(other)) <= self.threshold * total:
            return False
        known = self._kept[other]
        if 2 * sum(word in known for word in mine) <= self.threshold * total:
            return False
        return rouge_l(mine, other) > self.threshold
