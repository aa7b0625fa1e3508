"""Whether the loss of base models on held-out text falls as a power of their size and of their data.

    L(N, D) = c · N^(−α) · D^(−β)          N parameters, D tokens

fitted by least squares of log L; the two terms of Kaplan et al. as one product, since a floor (the E of
Hoffmann et al.) cannot be told from the rest within a factor of six in size and of four in data.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from trueup.claims.experiment import wrote
from trueup.claims.finding import Finding, Trial, Trials, over_seeds
from trueup.reports.figures import curves

SUMMARY = "The held-out loss of base models falls as a power of their size and of their data."
REFERENCES = ("kaplan2020", "hoffmann2022")
SEEDS = (1, 2, 3)

SIZES, TOKENS = ("tiny", "small", "base"), ("150k", "300k", "600k")
STRAIGHT = 0.05
"Share of the loss that the law may miss at its worst point."


class Point(NamedTuple):
    """One trained model."""

    parameters: float
    tokens: float
    loss: float

    @property
    def compute(self) -> float:
        """C = 6 N D, in FLOPs."""
        return 6 * self.parameters * self.tokens


class Law(NamedTuple):
    """A fitted law, and the largest share of a loss by which it is off."""

    alpha: float
    beta: float
    miss: float


def measure(trials: Trials) -> Finding:
    """The exponents of size and of data, and how far the worst point lies from the law, seed by seed."""
    grids = [[point(trial, f"{size}_{tokens}") for size in SIZES for tokens in TOKENS] for trial in trials]
    laws = [fit(points) for points in grids]
    return Finding(
        effects=(
            over_seeds("exponent of size", [law.alpha for law in laws], (0.0, None)),
            over_seeds("exponent of data", [law.beta for law in laws], (0.0, None)),
            over_seeds("largest miss, share of the loss", [law.miss for law in laws], (None, STRAIGHT)),
        ),
        setting="Base models of 0.16, 0.43 and 0.92 million parameters, each trained from nothing on about "
        "150, 300 and 600 thousand tokens seen once; loss on 156 documents of the test split.",
        figure=picture(grids),
        caption="Means over seeds. The frontier is the least loss at no more than that compute, C = 6 N D.",
        because="The loss falls with size and with data, but not as one power: with more data the sizes draw "
        "together, as towards a least loss of this corpus, and this law has no term for one.",
    )


def point(trial: Trial, stage: str) -> Point:
    """What a pretraining stage reported."""
    found = wrote(trial, stage, "scale.json")
    return Point(found["parameters"], found["tokens"], found["held_out_nll"])


def fit(points: Sequence[Point]) -> Law:
    """log L = log c − α log N − β log D by least squares."""
    n, d, loss = np.log(np.array(points)).T
    terms = np.stack([np.ones_like(n), -n, -d], axis=1)
    (c, alpha, beta), *_ = np.linalg.lstsq(terms, loss, rcond=None)
    miss = np.abs(np.expm1(terms @ np.array([c, alpha, beta]) - loss)).max()
    return Law(float(alpha), float(beta), float(miss))


def frontier(points: Sequence[Point]) -> list[Point]:
    """The points that no point of at most their compute beats, by rising compute."""
    kept: list[Point] = []
    for found in sorted(points, key=lambda p: (p.compute, p.loss)):
        if not kept or found.loss < kept[-1].loss:
            kept.append(found)
    return kept


def picture(grids: Sequence[Sequence[Point]]) -> Markup:
    """Loss over compute, a line for each size, and the frontier, on logarithmic axes."""
    mean = [Point(*map(float, values)) for values in np.mean(np.array(grids), axis=0)]
    per_size = len(TOKENS)
    # The frontier is drawn first: the sizes that it runs along lie on top of it.
    lines = {"frontier": frontier(mean)}
    lines.update({size: mean[i * per_size : (i + 1) * per_size] for i, size in enumerate(SIZES)})
    return curves(
        {
            name: [(math.log10(p.compute), math.log10(p.loss)) for p in points]
            for name, points in lines.items()
        },
        across="compute, log₁₀ FLOPs",
        up="log₁₀ loss",
        description="Held-out loss over compute for three sizes, with the frontier.",
    )
