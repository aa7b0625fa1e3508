"""Which of a group's completions are better than which, and which is best: by a judge, or as files say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import numpy as np

from trueup.engine.groups import Comparison, Group
from trueup.engine.method import Handles
from trueup.engine.views import View, mapped

Which = Literal["all", "extremes", "tournament"]


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """Writes the mark `best`, 1 on one completion of each group, and comparisons by the mark `score`.

    Pairs are strict: two completions of one score make none, and nothing but the order of scores matters.
    all: every two. extremes: the best over the worst. tournament: neighbours meet, winners go on to the next
    round, K − 1 meetings in all. The best is the first of those with the highest score.
    """

    which: Which = "all"

    reads = frozenset({"score"})
    writes = frozenset({"best"})

    def __call__(self, groups: list[Group], handles: Handles) -> list[Group]:
        """The groups with pairs and best; logs the share of groups that have a pair."""
        out = [_by_scores(g, [c.marks["score"] for c in g.completions], self.which) for g in groups]
        handles.record({"preferences/share": float(np.mean([bool(g.comparisons) for g in out]))})
        return out


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
            found = _won(dict(enumerate(scores)), "extremes") if self.label == "hard" else _soft(scores)
            gaps += [abs(scores[c.a] - scores[c.b]) for c in found]
            out.append(replace(group, comparisons=tuple(found), rankings=()))
        handles.record(
            {
                "preferences/share": float(np.mean([bool(g.comparisons) for g in out])),
                "preferences/gap": float(np.mean(gaps)) if gaps else 0.0,
            }
        )
        return out


@dataclass(frozen=True, kw_only=True)
class Stated:
    """Writes the mark `best`, 1 on one completion of each group, by what its file says of it.

    Comparisons and rankings are the pairs; best is the first of those with the most wins over losses. Where
    there are only scores, those of one completion are averaged, and pairs and best follow from the averages.
    A group without judgements is a demonstration: its first completion is best.
    """

    reads = frozenset[str]()
    writes = frozenset({"best"})

    def __call__(self, groups: list[Group], handles: Handles) -> list[Group]:
        """The groups with best, and with pairs where only scores were given."""
        return [_as_stated(group) for group in groups]

    def over(self, groups: View, handles: Handles) -> Sequence[Group]:
        """The same of groups that are not in memory."""
        return mapped(groups, _as_stated)


def _as_stated(group: Group) -> Group:
    if not group.pairs() and group.scores:
        given: dict[int, list[float]] = {}
        for score in group.scores:
            given.setdefault(score.completion, []).append(score.value)
        scores = [float(np.mean(given[i])) if i in given else None for i in range(len(group.completions))]
        return _by_scores(group, scores, "all")
    wins = [0.0] * len(group.completions)
    for pair in group.pairs():
        wins[pair.chosen] += pair.label - 0.5
        wins[pair.rejected] -= pair.label - 0.5
    return _with_best(group, int(np.argmax(wins)))


def _by_scores(group: Group, scores: Sequence[float | None], which: Which) -> Group:
    """The group with the pairs that its scores make; a completion without a score is in none."""
    scored = {i: score for i, score in enumerate(scores) if score is not None}
    pairs = tuple(_won(scored, which))
    return _with_best(replace(group, comparisons=pairs, rankings=()), _best(scored))


def _won(scored: dict[int, float], which: Which) -> list[Comparison]:
    """Who wins of those who meet; two completions of one score make no pair."""
    if which == "all":
        met = list(combinations(scored, 2))
    elif which == "extremes":
        met = [(_best(scored), min(scored, key=lambda i: scored[i]))]
    else:
        met = _meetings(scored)
    decided = [(a, b) if scored[a] > scored[b] else (b, a) for a, b in met if scored[a] != scored[b]]
    return [Comparison(a=winner, b=loser, choice="a") for winner, loser in decided]


def _soft(scores: Sequence[float]) -> list[Comparison]:
    # tanh rather than 1 / (1 + e^-x): it cannot overflow.
    return [
        Comparison(a=a, b=b, choice="a", probability=float(0.5 + 0.5 * np.tanh((scores[a] - scores[b]) / 2)))
        for a, b in combinations(range(len(scores)), 2)
    ]


def _best(scored: dict[int, float]) -> int:
    """The first of those with the highest score."""
    return max(scored, key=lambda i: (scored[i], -i))


def _meetings(scored: dict[int, float]) -> list[tuple[int, int]]:
    """Who meets whom when winners go on: of equals the first; an odd one out waits for the next round."""
    met, left = [], list(scored)
    while len(left) > 1:
        round_ = list(zip(left[::2], left[1::2], strict=False))
        met += round_
        waiting = left[len(round_) * 2 :]
        left = [a if scored[a] >= scored[b] else b for a, b in round_] + waiting
    return met


def _with_best(group: Group, best: int) -> Group:
    return group.with_completions(
        [c.with_marks(best=float(i == best)) for i, c in enumerate(group.completions)]
    )
