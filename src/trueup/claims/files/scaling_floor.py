"""Whether a power law of size and data with a floor foretells the loss of base models of six sizes.

    L(N, D) = E + A N^(−α) + B D^(−β)          N parameters, D tokens      (Hoffmann et al. 2022, eq. 2)

fitted by least squares of log L with E, A, B, α, β above 0, from several starts.
"""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import least_squares

from trueup.claims.experiment import Floats
from trueup.claims.files.scaling_laws import Point, point
from trueup.claims.finding import Finding, Trials, over_seeds
from trueup.reports.figures import curves

SUMMARY = "A power law of size and data with a floor foretells the held-out loss over six sizes."
REFERENCES = ("hoffmann2022", "kaplan2020")
SEEDS = (1, 2, 3)
MINUTES = 20.0
STRAIGHT = 0.05
"Share of the loss that the law may miss at its worst point, as in `scaling-laws`."
MARGIN = 0.03
"How near to that the largest miss may stay and count as on the bound."
POWER = 0.1
"An exponent that counts as none."

SIZES, TOKENS = ("micro", "tiny", "small", "base", "medium", "large"), ("150k", "300k", "600k")
MODELS = [(s, t) for s in SIZES for t in TOKENS if (s, t) != ("large", "600k")]
STARTS = [(np.log(e), a, b) for e in (0.1, 0.5) for a in (0.2, 0.6) for b in (0.2, 0.6)]


def measure(trials: Trials) -> Finding:
    """How far the worst of 17 models lies from the law, and the exponents, seed by seed."""
    grids = [[point(trial, f"{size}_{tokens}") for size, tokens in MODELS] for trial in trials]
    laws = [fit(points) for points in grids]
    misses = np.array([residuals(law, points) for law, points in zip(laws, grids, strict=True)])
    floors = ", ".join(f"{np.exp(law[0]):.2f}" for law in laws)
    mean = dict(zip(MODELS, misses.mean(axis=0), strict=True))
    sizes = dict(zip(MODELS, np.log10([p.parameters for p in grids[0]]), strict=True))
    return Finding(
        effects=(
            over_seeds(
                "largest miss, share of the loss",
                np.abs(misses).max(axis=1),
                (None, STRAIGHT),
                margin=MARGIN,
                null=STRAIGHT,
            ),
            over_seeds("exponent of size", [law[3] for law in laws], (0.0, None), margin=POWER),
            over_seeds("exponent of data", [law[4] for law in laws], (0.0, None), margin=POWER),
        ),
        setting="Base models of .05 to 6.6 million parameters, each trained from nothing on about 150, 300 "
        "and 600 thousand tokens seen once (the largest on the first two); loss on 156 documents of the test "
        f"split. The fitted floors are {floors} nats a token.",
        figure=curves(
            {
                f"{t[:-1]},000 tokens": [(float(sizes[s, t]), float(mean[s, t])) for s, u in MODELS if u == t]
                for t in TOKENS
            },
            across="parameters, log₁₀",
            up="residual, share of the loss",
            description="Residuals of the law by size and amount of data.",
        ),
        caption="Law minus measured loss, as a share of it; means over seeds.",
    )


def fit(points: Sequence[Point]) -> Floats:
    """(log E, log A, log B, α, β) of least squares, the best of several starts."""
    n, d, loss = np.array(points).T

    def off(law: Floats) -> Floats:
        return np.log(predicted(law, n, d)) - np.log(loss)

    tries = [
        least_squares(
            off,
            [e, np.log(loss.mean()) + a * np.log(n.min()), np.log(loss.mean()) + b * np.log(d.min()), a, b],
            bounds=([-9.0, -20.0, -20.0, 0.0, 0.0], [2.0, 40.0, 40.0, 3.0, 3.0]),
        )
        for e, a, b in STARTS
    ]
    return np.asarray(min(tries, key=lambda found: found.cost).x)


def predicted(law: Floats, n: Floats, d: Floats) -> Floats:
    """E + A N^(−α) + B D^(−β)."""
    e, a, b, alpha, beta = law
    return np.exp(e) + np.exp(a - alpha * np.log(n)) + np.exp(b - beta * np.log(d))


def residuals(law: Floats, points: Sequence[Point]) -> Floats:
    """Law minus loss, as a share of the loss, by point."""
    n, d, loss = np.array(points).T
    return predicted(law, n, d) / loss - 1
