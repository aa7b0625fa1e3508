"""How long a run may still take, from the times of its last steps; where they do not say, it is unknown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median, quantiles

RECENT = 50
"How many of the last steps are asked."
FEWEST = 5
"Of fewer nothing is concluded."


@dataclass(frozen=True, kw_only=True)
class Remaining:
    """Seconds to the last step: were all steps like the median of the recent ones, and its range."""

    seconds: float
    low: float
    high: float
    over: int
    "How many steps were asked."


def remaining(recent: Sequence[float], steps: int, since: float) -> Remaining | None:
    """The time that `steps` more take, `since` seconds into the first; None where too little is known.

    The median of the recent steps, and as its range their tenth and ninetieth percentile. Now and then a step
    is long, for an evaluation or a checkpoint, and the median does not see it: the upper end is at least
    their mean.
    """
    if len(recent) < FEWEST or steps < 1:
        return None
    tenths = quantiles(recent, n=10, method="inclusive")

    def total(seconds: float) -> float:
        return steps * seconds - min(since, seconds)

    middle = median(recent)
    return Remaining(
        seconds=total(middle),
        low=total(tenths[0]),
        high=total(max(tenths[-1], fmean(recent), middle)),
        over=len(recent),
    )
