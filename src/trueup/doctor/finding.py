"""What a check says: a finding, with its numbers and rows, or why it could not look."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from trueup.doctor.dump import Row

if TYPE_CHECKING:
    from trueup.chat import Chat
    from trueup.doctor.scan import Scan
    from trueup.doctor.verdict import Verdict

Severity = Literal["fault", "doubt"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong with some rows."""

    name: str
    "Its kind, as the page lists them."
    says: str
    "What was measured, as a sentence, beside what would be expected."
    lines: tuple[int, ...]
    "The lines of the dump that it is about, from 1, increasing."
    remedy: str
    measured: Mapping[str, float | int] = field(default_factory=dict)
    severity: Severity = "fault"
    "A doubt may be meant so; a fault is never meant."


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """What checks look at: the rows, and with a model its chat and what it says of them."""

    rows: Sequence[Row]
    chat: Chat | None = None
    vocabulary: int | None = None
    "How many ids the model has a row of weights for."
    scan: Scan | None = None
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    "Of each column of log-probs, by its name."
    loss_on: Literal["answers", "everything"] = "answers"


@dataclass(frozen=True, kw_only=True)
class Check:
    """A check of one or more kinds: what it looks for, what it needs, and the function that looks."""

    kinds: tuple[str, ...]
    needs: tuple[str, ...]
    "Fields of rows, of which some row must have each; `model`: what `--model` opens."
    look: Callable[[Case], Found]


Found = Iterable[Finding] | str
"Findings, or why nothing could be said."


def finding(name: str, says: str, rows: Iterable[Row], remedy: str, **measured: float | int) -> Finding:
    """The finding about some rows; a fault."""
    lines = tuple(sorted({row.line for row in rows}))
    return Finding(name=name, says=says, lines=lines, remedy=remedy, measured=measured)


def counted(number: int, one: str, many: str = "") -> str:
    """`1 row`, `1,024 rows`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def of_rows(some: int, all_of: int) -> str:
    """`all 64 rows`, `3 of 64 rows`."""
    return f"all {all_of:,} rows" if some == all_of and some > 1 else f"{some:,} of {counted(all_of, 'row')}"
