"""A number over the steps of a run, in bounded memory: however many values come, no extreme is lost."""

from __future__ import annotations

import math

MOST = 64
"Stretches that are kept, each with its lowest and its highest value, before two become one."
Point = tuple[float, float]


class Series:
    """The (step, value) points of one number, in the order in which they were logged."""

    def __init__(self) -> None:
        self.count = self.lost = 0
        "How many finite values there were, and how many that were not."
        self.first: Point | None = None
        self.last: Point | None = None
        self.latest = math.nan
        "The last value, finite or not."
        self._stretches: list[tuple[Point, Point]] = []
        self._width, self._filled = 1, 0

    def add(self, step: float, value: float) -> None:
        """Nothing; takes one more value."""
        self.latest = value
        if not math.isfinite(value):
            self.lost += 1
            return
        point = (step, value)
        self.count += 1
        self.first = self.first or point
        self.last = point
        if self._stretches and self._filled < self._width:
            low, high = self._stretches[-1]
            self._stretches[-1] = (point if value < low[1] else low, point if value > high[1] else high)
            self._filled += 1
            return
        if len(self._stretches) == MOST:
            pairs = zip(self._stretches[::2], self._stretches[1::2], strict=True)
            self._stretches = [(min(a[0], b[0], key=_value), max(a[1], b[1], key=_value)) for a, b in pairs]
            self._width *= 2
        self._stretches.append((point, point))
        self._filled = 1

    @property
    def points(self) -> list[Point]:
        """At most 2 MOST + 2 of the points: the first, the last, and of each stretch its two extremes."""
        if self.first is None or self.last is None:
            return []
        inner = [point for pair in self._stretches for point in sorted(set(pair))]
        return [*([self.first] if inner[0] != self.first else []), *inner,
                *([self.last] if inner[-1] != self.last else [])]  # fmt: skip


def _value(point: Point) -> float:
    return point[1]
