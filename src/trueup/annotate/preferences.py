"""From scores to preferences: what a judge would have said of two completions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import numpy as np

from trueup.engine.groups import Comparison, Group
from trueup.engine.method import Handles


@dataclass(frozen=True, kw_only=True)
class Preferences:
    """Writes comparisons by the mark `score`, in place of any the groups had.

    hard: the best completion over the worst, the first of equals; none where all scores are equal.
    bradley_terry: every two completions with the soft label P(a preferred) = σ(score_a − score_b).
    """

    label: Literal["hard", "bradley_terry"] = "hard"

    reads = frozenset({"score"})
    writes = frozenset[str]()

    def __call__(self, groups: list[Group], handles: Handles) -> list[Group]:
        """The groups with comparisons; logs the share of groups that have one and the mean gap of a pair."""
        out, gaps = [], []
        for group in groups:
            scores = [c.marks["score"] for c in group.completions]
            found = _extremes(scores) if self.label == "hard" else _all_pairs(scores)
            gaps += [abs(scores[c.a] - scores[c.b]) for c in found]
            out.append(replace(group, comparisons=tuple(found), rankings=()))
        handles.record(
            {
                "preferences/share": float(np.mean([bool(g.comparisons) for g in out])),
                "preferences/gap": float(np.mean(gaps)) if gaps else 0.0,
            }
        )
        return out


def _extremes(scores: list[float]) -> list[Comparison]:
    best, worst = int(np.argmax(scores)), int(np.argmin(scores))
    return [Comparison(a=best, b=worst, choice="a")] if scores[best] > scores[worst] else []


def _all_pairs(scores: list[float]) -> list[Comparison]:
    # tanh rather than 1 / (1 + e^-x): it cannot overflow.
    return [
        Comparison(a=a, b=b, choice="a", probability=float(0.5 + 0.5 * np.tanh((scores[a] - scores[b]) / 2)))
        for a, b in combinations(range(len(scores)), 2)
    ]
