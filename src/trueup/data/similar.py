"""Texts that are nearly the same: near-duplicates inside a data set, and overlap between train and eval.

References: Broder 1997 (resemblance and MinHash); Brown et al. 2020, appendix C (13-gram overlap).
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from trueup.data.hygiene import Kept, kept, normalise, prompt_text
from trueup.data.words import spaced
from trueup.engine.groups import Group
from trueup.errors import TrueupError

_PRIME = np.uint64(2**31 - 1)
_BIG_BUCKET = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """Which evaluation groups the training data has seen, by position in `evaluation`."""

    same: tuple[int, ...]
    "The normalised prompt stands in the training prompts."
    ngram: tuple[int, ...]
    "Some run of n words of the prompt or a completion stands in the training data; `same` not repeated here."
    num_train: int
    num_eval: int

    @property
    def share(self) -> float:
        """The part of the evaluation groups that overlap."""
        return (len(self.same) + len(self.ngram)) / self.num_eval if self.num_eval else 0.0


def overlap(train: Sequence[Group], evaluation: Sequence[Group], *, num_words: int = 13) -> Overlap:
    """Which evaluation groups share a normalised prompt or a run of `num_words` words with the training."""
    prompts = {_digest(normalise(prompt_text(group))) for group in train}
    runs = {run for group in train for run in _runs(group, num_words)}
    same, ngram = [], []
    for i, group in enumerate(evaluation):
        if _digest(normalise(prompt_text(group))) in prompts:
            same.append(i)
        elif any(run in runs for run in _runs(group, num_words)):
            ngram.append(i)
    return Overlap(same=tuple(same), ngram=tuple(ngram), num_train=len(train), num_eval=len(evaluation))


def drop_overlap(train: Sequence[Group], evaluation: Sequence[Group], *, num_words: int = 13) -> Kept:
    """The training groups that share no normalised prompt and no run of words with the evaluation data."""
    found = overlap(evaluation, train, num_words=num_words)
    reasons = dict.fromkeys(found.same, "prompt in eval")
    reasons |= dict.fromkeys(found.ngram, f"{num_words}-gram in eval")
    return kept(train, reasons)


def near_duplicates(
    texts: Sequence[str], *, threshold: float = 0.8, num_words: int = 3, num_hashes: int = 128, seed: int = 0
) -> list[tuple[int, int, float]]:
    """The pairs (i, j, J), i < j, whose sets of word runs have Jaccard similarity J of at least `threshold`.

        J(A, B) = |A ∩ B| / |A ∪ B|

    MinHash signatures in bands propose the pairs (Broder 1997) and every proposal is computed exactly, so no
    pair is false; one of similarity s is missed with probability (1 - s^r)^b for b bands of r hashes.
    Of more than 64 texts in one bucket each is held against the first 64 only.
    """
    if not 0.0 < threshold <= 1.0:
        raise TrueupError("E701", f"threshold is {threshold}", where="threshold", remedy="give 0 < t <= 1")
    split = [spaced(normalise(text)).split() for text in texts]
    sets = [frozenset(_word_runs(words, min(num_words, len(words)) or 1)) for words in split]
    proposed = sorted(_proposed(sets, threshold, num_hashes, seed))
    found = ((i, j, len(sets[i] & sets[j]) / len(sets[i] | sets[j])) for i, j in proposed)
    return [(i, j, similarity) for i, j, similarity in found if similarity >= threshold]


def drop_near_duplicates(groups: Sequence[Group], *, threshold: float = 0.8, seed: int = 0) -> Kept:
    """The groups without those whose prompt is nearly that of an earlier kept one."""
    close = near_duplicates([prompt_text(group) for group in groups], threshold=threshold, seed=seed)
    reasons: dict[int, str] = {}
    for i, j, _ in sorted(close, key=lambda pair: pair[1]):
        if i not in reasons:
            reasons[j] = "near-duplicate"
    return kept(groups, reasons)


def _proposed(
    sets: Sequence[frozenset[int]], threshold: float, num_hashes: int, seed: int
) -> set[tuple[int, int]]:
    rows = _rows_per_band(threshold, num_hashes)
    rng = np.random.default_rng(seed)
    scale = rng.integers(1, int(_PRIME), size=num_hashes, dtype=np.uint64)
    shift = rng.integers(0, int(_PRIME), size=num_hashes, dtype=np.uint64)
    buckets: dict[tuple[int, bytes], list[int]] = defaultdict(list)
    for index, items in enumerate(sets):
        if not items:
            continue
        values = np.fromiter(items, np.uint64, len(items)) % _PRIME
        signature = ((values[:, None] * scale + shift) % _PRIME).min(0)
        for band in range(num_hashes // rows):
            buckets[band, signature[band * rows : (band + 1) * rows].tobytes()].append(index)
    return {pair for members in buckets.values() for pair in _within(members)}


def _within(members: list[int]) -> Iterator[tuple[int, int]]:
    """All pairs of a bucket; in a very full one each member is held against the first ones only."""
    for position, member in enumerate(members):
        yield from ((first, member) for first in members[: min(position, _BIG_BUCKET)])


def _rows_per_band(threshold: float, num_hashes: int) -> int:
    """The most rows a band for which a pair right at the threshold is proposed with probability 0.99."""
    enough = (
        rows
        for rows in range(1, num_hashes + 1)
        if 1.0 - (1.0 - threshold**rows) ** (num_hashes // rows) >= 0.99
    )
    return max(enough, default=1)


def _runs(group: Group, num_words: int) -> Iterator[int]:
    for text in (*(m.content for m in group.prompt), *(c.text for c in group.completions)):
        yield from _word_runs(spaced(normalise(text)).split(), num_words)


def _word_runs(words: Sequence[str], num_words: int) -> Iterator[int]:
    for start in range(len(words) - num_words + 1):
        yield _digest(" ".join(words[start : start + num_words]))


def _digest(text: str) -> int:
    state = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(state.digest(), "little")
