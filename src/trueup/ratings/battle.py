"""A battle: two models answered one prompt, and somebody said which answer was better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from trueup.ratings.style import STYLE, Style

OUTCOMES = {"a": 1.0, "b": 0.0, "tie": 0.5}
"What a verdict counts for the first model."


@dataclass(frozen=True, slots=True, kw_only=True)
class Battle:
    """One verdict on two models' answers to one prompt."""

    a: str
    b: str
    win: float
    "1 if a was better, 0 if b was, ½ for a tie; between them where a judge gave P(a is better)."
    first: Literal["a", "b", ""] = ""
    "Whose answer was shown first; empty if unknown."
    lengths: tuple[float, float] | None = None
    "How long the two answers are, in any one unit."
    style: tuple[Style, Style] | None = None
    "How many headers, list items and bold passages the two answers have."
    prompt: str = ""
    "Battles of one prompt are not independent of each other; empty if unknown."
    judge: str = ""
    weight: float = 1.0
    "How many battles this one counts as, in the fit of ratings."

    def to_json(self) -> dict[str, Any]:
        """The row of a battles file; what is not known is left out."""
        named = {1.0: "a", 0.0: "b", 0.5: "tie"}
        row: dict[str, Any] = {"a": self.a, "b": self.b, "outcome": named.get(self.win, self.win)}
        row |= {name: value for name in ("first", "prompt", "judge") if (value := getattr(self, name))}
        if self.lengths is not None:
            row["lengths"] = list(self.lengths)
        if self.style is not None:
            row["style"] = {name: [getattr(one, name) for one in self.style] for name in STYLE}
        if self.weight != 1.0:
            row["weight"] = self.weight
        return row
