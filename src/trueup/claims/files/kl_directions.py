"""Which Gaussian is nearest to a mixture of two, by each direction of the KL divergence.

    P = ½ N(−m, s²) + ½ N(m, s²),  Q = N(μ, σ²)
    min KL(P ‖ Q):  μ = 0, σ² = s² + m²          min KL(Q ‖ P):  μ = ±m, σ = s, value log 2  (m ≫ s)

Forward matches P's mean and variance, and so covers both modes and the gap between them; reverse takes one.
"""

import math
from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from scipy.optimize import minimize

from trueup.claims.finding import Effect, Finding, Trials
from trueup.reports.charts import Curve, Point
from trueup.reports.checked import Interval
from trueup.reports.figures import plane

SUMMARY = "Forward KL covers both modes of a mixture, reverse KL settles on one."
REFERENCES = ("minka2005", "gu2024")

M, S = 4.0, 0.5
"Modes at ±M, each of width S; their overlap is of the order e^(−M²/2S²) = 1e-14."
EXACT = 1e-6
"How far quadrature and optimiser may end from the closed forms."
Floats = NDArray[np.float64]
GRID: Floats = np.linspace(-60.0, 60.0, 12_001)
"Where densities are summed: the step is far below every width that is tried."


class Fit(NamedTuple):
    """A fitted Gaussian and the divergence there, in nats."""

    mu: float
    sigma: float
    value: float


def gaussian(mu: float, sigma: float) -> Floats:
    """log N(μ, σ²) on the grid."""
    return -0.5 * ((GRID - mu) / sigma) ** 2 - math.log(sigma * math.sqrt(2 * math.pi))


def mixture() -> Floats:
    """log P on the grid."""
    return np.logaddexp(gaussian(-M, S), gaussian(M, S)) - math.log(2)


def divergence(log_a: Floats, log_b: Floats) -> float:
    """KL(a ‖ b) by the trapezoid rule, which is exact to rounding for smooth densities that vanish."""
    return float(np.trapezoid(np.exp(log_a) * (log_a - log_b), GRID))


def nearest(cost: Callable[[Floats], float], mu: float, sigma: float) -> Fit:
    """The least of a divergence of N(μ, σ²), from a start."""
    settings = {"xatol": 1e-10, "fatol": 1e-15, "maxiter": 2000, "maxfev": 2000}
    found = minimize(
        lambda at: cost(gaussian(at[0], math.exp(at[1]))),
        (mu, math.log(sigma)),
        method="Nelder-Mead",
        options=settings,
    )
    return Fit(float(found.x[0]), math.exp(found.x[1]), float(found.fun))


def measure(trials: Trials) -> Finding:
    """Both fits from several starts, their distance from the closed forms, and a picture."""
    log_p = mixture()
    starts = list(product((-1.5 * M, -0.3 * M, 0.3 * M, 1.5 * M), (S, M)))
    forward = [nearest(lambda q: divergence(log_p, q), *start) for start in starts]
    reverse = [nearest(lambda q: divergence(q, log_p), *start) for start in starts]
    ends = [max(reverse, key=lambda fit: fit.mu), min(reverse, key=lambda fit: fit.mu)]
    off = max(abs(abs(fit.mu) - M) for fit in reverse)
    effects = (
        _exactly("forward: largest |μ| over the starts", max(abs(f.mu) for f in forward), 0.0),
        _exactly("forward: σ²", forward[0].sigma ** 2, S**2 + M**2),
        _exactly("reverse: μ from a start on the right", ends[0].mu, M),
        _exactly("reverse: μ from a start on the left", ends[1].mu, -M),
        _exactly("reverse: largest distance of |μ| from m over the starts", off, 0.0),
        _exactly("reverse: σ", ends[0].sigma, S),
        _exactly("reverse: KL(Q ‖ P), log 2", ends[0].value, math.log(2), "nats"),
    )
    return Finding(
        effects=effects,
        setting=f"P = ½ N(−{M:g}, {S:g}²) + ½ N({M:g}, {S:g}²). One Gaussian is fitted by each direction, by "
        f"quadrature on {len(GRID):,} points and the Nelder-Mead method from {len(starts)} starts.",
        figure=picture(forward[0], ends[0], ends[1]),
        caption=f"Forward: μ = {forward[0].mu + 0.0:.3f}, σ = {forward[0].sigma:.3f}, "
        f"KL(P ‖ Q) = {forward[0].value:.3f} nats. Reverse: μ = ±{ends[0].mu:.3f}, σ = {ends[0].sigma:.3f}, "
        f"KL(Q ‖ P) = {ends[0].value:.3f} nats, by where the search began.",
    )


def _exactly(name: str, value: float, closed_form: float, unit: str = "") -> Effect:
    return Effect(name=name, value=value, wanted=(closed_form - EXACT, closed_form + EXACT), unit=unit)


def picture(forward: Fit, right: Fit, left: Fit) -> Markup:
    """The densities of P and of the three fits."""
    return plane(
        [
            Curve(name="P", points=_seen(mixture()), line="filled", marks=False, slot=0),
            Curve(name="forward, KL(P ‖ Q)", points=_fitted(forward), line="solid", marks=False, slot=2),
            Curve(name="reverse, from the left", points=_fitted(left), line="broken", marks=False, slot=6),
            Curve(name="reverse, KL(Q ‖ P)", points=_fitted(right), line="solid", marks=False, slot=6),
        ],
        across="",
        up="density",
        description="Densities of a mixture of two Gaussians, of the wide Gaussian that forward KL fits over "
        "both, and of those that reverse KL fits, each on one mode.",
    )


def _fitted(fit: Fit) -> list[Point]:
    return _seen(gaussian(fit.mu, fit.sigma))


def _seen(log_density: Floats) -> list[Point]:
    """Every fourth point of the grid where a density is more than nothing: the rest lies on the axis."""
    inside = (log_density > log_density.max() - 9) & (np.abs(GRID) <= 2.4 * M)
    places = np.flatnonzero(inside)[::4]
    return [Point(Interval(float(GRID[i])), Interval(math.exp(log_density[i]))) for i in places]
