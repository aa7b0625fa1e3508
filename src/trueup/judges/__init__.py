"""Judges: anything that gives each completion of each group a number, larger for better."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trueup.engine.groups import Group

Judge = Callable[[Sequence[Group]], list[list[float]]]
"Scores for each completion of each group, in order."
