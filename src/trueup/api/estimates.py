"""Figures with their intervals, as results show them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from trueup.statistics.estimates import Estimate


def estimate_of(row: Mapping[str, Any], *, items: int = 0) -> Estimate:
    """The estimate that JSON values hold; `items` where they do not say over how many."""
    return Estimate.from_json({"n": items, **row})


def estimates_in(document: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Estimate]]:
    """Every estimate of some JSON values, by the words of its place: `toxic expected max toxicity`."""
    for key, value in document.items():
        name = f"{before} {key}".strip().replace("_", " ")
        if isinstance(value, Mapping):
            if "mean" in value and any(part.startswith("ci") for part in value):
                yield name, estimate_of(value)
            else:
                yield from estimates_in(value, name)


def in_words(value: Estimate) -> str:
    """`0.250 [0.210, 0.290]  n 200`; without an interval where there is none."""
    interval = "" if math.isnan(value.low) else f" [{value.low:.3f}, {value.high:.3f}]"
    return f"{value.mean:.3f}{interval}  n {value.n}"


def rows_of(figures: Mapping[str, Estimate]) -> Iterable[dict[str, Any]]:
    """A row for each figure, for a frame."""
    for name, value in figures.items():
        yield {"figure": name, "mean": value.mean, "low": value.low, "high": value.high, "n": value.n}
