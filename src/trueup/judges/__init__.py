"""Judges: anything that gives each completion of each group a number, larger for better."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from trueup.engine.groups import Group

Judge = Callable[[Sequence[Group]], list[list[float]]]
"Scores for each completion of each group, in order."


def by_group(groups: Sequence[Group], scores: Iterable[float]) -> list[list[float]]:
    """The scores of all completions, one after the other, as each group's own."""
    given = iter(scores)
    return [[next(given) for _ in group.completions] for group in groups]
