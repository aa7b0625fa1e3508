"""Which Gaussian is nearest to a mixture of two, by each direction of the KL divergence.

    P = ½ N(−m, s²) + ½ N(m, s²),  Q = N(μ, σ²)
    min KL(P ‖ Q):  μ = 0, σ² = s² + m²          min KL(Q ‖ P):  μ = ±m, σ = s, value log 2  (m ≫ s)

Forward matches P's mean and variance, and so covers both modes and the gap between them; reverse takes one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from scipy.optimize import minimize

from trueup.claims.experiment import Trial
from trueup.claims.reproduce import Effect, Finding
from trueup.reports import svg

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


def measure(folder: Path, trials: Sequence[Trial]) -> Finding:
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


# ------------------------------------------------------------------------------------------ the picture

HEIGHT, TOP = 250, 34
STYLE = """
.frame { font: 13px ui-sans-serif, system-ui, sans-serif; }
.frame text { fill: #565d66; } .frame .tick { text-anchor: middle; }
.frame .ground { fill: #fff; } .frame .grid { stroke: #ebebe6; } .frame .axis { stroke: #b9bab4; }
.frame polyline { fill: none; stroke-width: 2; vector-effect: non-scaling-stroke; }
.frame polyline.target { fill: #e9e9e4; stroke: #6b727b; stroke-width: 1.5; }
.frame .forward { stroke: #2a6bb3; } .frame .reverse { stroke: #c03b39; }
.frame .other { stroke: #c03b39; stroke-dasharray: 5 4; }
.frame .key { stroke-width: 3; }
"""
KEYS = (
    ("target", "P", 0),
    ("forward", "forward, KL(P ‖ Q)", 70),
    ("reverse", "reverse, KL(Q ‖ P)", 260),
    ("other", "reverse, from the left", 450),
)


def picture(forward: Fit, right: Fit, left: Fit) -> Markup:
    """The densities of P and of the three fits, as one drawing."""
    across = svg.Scale(-2.4 * M, 2.4 * M)
    up = svg.Scale(0.0, 1.08 * max(math.exp(gaussian(f.mu, f.sigma).max()) for f in (right, forward)))
    frame = svg.element(
        "svg",
        xmlns="http://www.w3.org/2000/svg",
        class_="frame",
        viewBox=f"0 0 720 {HEIGHT + TOP + 30}",
        width="100%",
        role="img",
        aria_label="Densities of a mixture of two Gaussians, of the wide Gaussian that forward KL fits over "
        "both, and of those that reverse KL fits, each on one mode.",
    )
    style = svg.element("style")
    style.text = STYLE
    frame.append(style)
    frame.append(svg.element("rect", class_="ground", width="100%", height="100%"))
    plot = svg.element("svg", x=20, y=TOP, width=680, height=HEIGHT + 30)
    for value in svg.ticks(across, 6):
        x = across.x(value)
        plot.append(svg.element("line", class_="grid", x1=x, x2=x, y1=0, y2=HEIGHT))
        plot.append(svg.element("text", f"{value:g}", class_="tick", x=x, y=HEIGHT + 20))
    plot.append(svg.element("line", class_="axis", x1="0%", x2="100%", y1=HEIGHT, y2=HEIGHT))
    shown = {
        "target": mixture(),
        "forward": gaussian(forward.mu, forward.sigma),
        "other": gaussian(left.mu, left.sigma),
        "reverse": gaussian(right.mu, right.sigma),
    }
    for name, log_density in shown.items():
        seen = log_density > log_density.max() - 9  # the rest lies on the axis
        inside = np.flatnonzero(seen & (np.abs(GRID) <= 2.4 * M))[::4]
        points = [
            (across.thousandths(float(GRID[i])), up.y(math.exp(log_density[i]), HEIGHT)) for i in inside
        ]
        plot.append(svg.line(points, HEIGHT, name))
    frame.append(plot)
    for name, text, x in KEYS:
        key = svg.element("svg", x=20 + x, y=6, width=180, height=20)
        stroke = "axis" if name == "target" else name
        key.append(svg.element("line", class_=f"key {stroke}", x1=0, x2=22, y1=9, y2=9))
        key.append(svg.element("text", text, x=28, y=14))
        frame.append(key)
    return svg.markup(frame)
