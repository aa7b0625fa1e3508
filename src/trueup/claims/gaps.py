"""The gap between a reward model and imitation, by whatever it may depend on: what several claims measure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from trueup.claims.experiment import Trial
from trueup.reports.figures import curves

Points = list[tuple[float, float]]


def gap(trial: Trial, suffix: str, prefix: str = "") -> float:
    """Accuracy of the stage PREFIXby_reward_SUFFIX minus that of PREFIXby_imitation_SUFFIX."""
    reward, imitation = (
        trial.done(f"{prefix}by_{who}_{suffix}").metrics["accuracy"] for who in ("reward", "imitation")
    )
    return reward - imitation


def gaps_by_size(trial: Trial, sizes: Sequence[str], prefix: str = "") -> Points:
    """(log₁₀ of the parameters, gap) of every size; SIZE_600k is the stage that trained it."""
    counts = [trial.done(f"{size}_600k").metrics["parameters"] for size in sizes]
    return [(math.log10(n), gap(trial, size, prefix)) for n, size in zip(counts, sizes, strict=True)]


def slope(points: Points) -> float:
    """The least-squares slope of y over x."""
    x, y = np.array(points).T
    return float(np.polyfit(x, y, 1)[0])


def gaps_drawn(gaps: Sequence[Points], across: str = "parameters, log₁₀") -> Markup:
    """Every seed's gaps and their mean."""
    mean = [(float(x), float(y)) for x, y in np.mean(gaps, axis=0)]
    return curves(
        {"mean": mean},
        points={"each seed": [point for points in gaps for point in points]},
        across=across,
        up="accuracy, reward model minus imitation",
        description=f"The gap between a reward model and imitation by {across}.",
    )
