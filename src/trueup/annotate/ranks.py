"""Which of a group's completions are better than which, and which is best: by a judge, or as files say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import numpy as np

from trueup.engine.groups import Comparison, Group
from trueup.engine.method import Handles

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
    best = max(scored, key=lambda i: (scored[i], -i))
    if which == "all":
        met = list(combinations(scored, 2))
    elif which == "extremes":
        met = [(best, min(scored, key=lambda i: scored[i]))]
    else:
        met = _meetings(scored)
    decided = [(a, b) if scored[a] > scored[b] else (b, a) for a, b in met if scored[a] != scored[b]]
    pairs = tuple(Comparison(a=winner, b=loser, choice="a") for winner, loser in decided)
    return _with_best(replace(group, comparisons=pairs, rankings=()), best)


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
