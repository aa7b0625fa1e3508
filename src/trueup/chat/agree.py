"""How far our ids agree with those of the template's text encoded as one string, on text without tricks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import takewhile
from typing import Literal

from trueup.chat.codec import Codec

Reason = Literal["boundary", "space", "control", "text"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One conversation whose ids are not those of the rendered string."""

    row: int
    at: int
    "The first position where they differ."
    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    "Up to four tokens from there."
    reason: Reason
    """`boundary`: the same text, cut into other tokens where a content meets the template.
    `space`: the texts differ in white space only (a leading space, a space held back for the answer).
    `control`: the string has control tokens that the structure has not: the text spells one.
    `text`: the texts differ, as for a template that treats the last turn otherwise in a prompt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How many conversations there were, how many agree, and each difference with its reason."""

    num_rows: int
    differences: tuple[Difference, ...]

    @property
    def num_equal(self) -> int:
        """How many conversations have the same ids both ways."""
        return self.num_rows - len(self.differences)

    def counts(self) -> dict[str, int]:
        """How many differences there are of each reason that occurs."""
        reasons = [difference.reason for difference in self.differences]
        return {reason: reasons.count(reason) for reason in sorted(set(reasons))}


def compare(codec: Codec, rows: Iterable[tuple[list[int], list[int]]]) -> Agreement:
    """The comparison of our ids with those of the rendered string, a pair for each conversation."""
    pairs = list(rows)
    differences = (_difference(codec, row, *pair) for row, pair in enumerate(pairs) if pair[0] != pair[1])
    return Agreement(num_rows=len(pairs), differences=tuple(differences))


def _difference(codec: Codec, row: int, ours: list[int], theirs: list[int]) -> Difference:
    at = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(ours, theirs, strict=False))))
    names = codec.names
    ours_text, theirs_text = codec.decode(ours), codec.decode(theirs)
    reason: Reason = "text"
    if [k for k in ours if k in names] != [k for k in theirs if k in names]:
        reason = "control"
    elif ours_text == theirs_text:
        reason = "boundary"
    elif "".join(ours_text.split()) == "".join(theirs_text.split()):
        reason = "space"

    def tokens(ids: list[int]) -> tuple[str, ...]:
        return tuple(str(codec.whole.id_to_token(number)) for number in ids[at : at + 4])

    return Difference(row=row, at=at, ours=tokens(ours), theirs=tokens(theirs), reason=reason)
