"""The best weights by few measurements: a Gaussian process over the simplex, and its expected improvement.

    f ~ GP(m, σ² k),  k(w, w′) = exp(−‖w − w′‖² / 2ℓ²),      y = f(w) + noise
    EI(w) = (μ(w) − y*) Φ(z) + s(w) φ(z),   z = (μ(w) − y*) / s(w)

(Rasmussen & Williams 2006, equations 2.25 and 2.26; Jones et al. 1998, equation 15.) The length ℓ and the
noise are those of highest marginal likelihood on a small grid; m and σ² have closed forms there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, stats

from trueup.soups.simplex import Weights, corners, dirichlet, lattice, uniform

Floats = NDArray[np.float64]
LENGTHS = (0.15, 0.3, 0.6, 1.2)
"Between a tenth of the simplex's diameter √2 and all of it."
NOISES = (1e-6, 1e-3, 1e-2, 1e-1, 1.0)
"The noise's variance as a share of the function's."
_CANDIDATES = 512


@dataclass(frozen=True, kw_only=True, eq=False)
class Process:
    """A Gaussian process after some measurements."""

    points: Floats
    "[num, N]"
    length: float
    mean: float
    scale: float
    "σ: the deviation of f before anything was measured."
    factor: tuple[Floats, bool]
    "Cholesky factor of K + noise."
    solved: Floats
    "(K + noise)⁻¹ (y − m), [num]"

    def at(self, where: Floats) -> tuple[Floats, Floats]:
        """μ and s of f at some points [M, N], each [M]."""
        across = _kernel(where, self.points, self.length)
        mean = self.mean + across @ self.solved
        left = 1.0 - (across * linalg.cho_solve(self.factor, across.T).T).sum(axis=1)
        return mean, self.scale * np.sqrt(np.maximum(left, 0.0))


def fit(points: Floats, values: Floats) -> Process:
    """The process of highest marginal likelihood for values [num] at points [num, N]."""
    best: tuple[float, Process] | None = None
    num = len(values)
    for length in LENGTHS:
        gram = _kernel(points, points, length)
        for noise in NOISES:
            factor = linalg.cho_factor(gram + noise * np.eye(num), lower=True)
            ones = linalg.cho_solve(factor, np.ones(num))
            mean = float(values @ ones / ones.sum())
            solved = linalg.cho_solve(factor, values - mean)
            variance = max(float((values - mean) @ solved) / num, 1e-24)
            loss = num * np.log(variance) + 2 * np.log(np.diag(factor[0])).sum()
            if best is None or loss < best[0]:
                scale = variance**0.5
                best = (
                    loss,
                    Process(
                        points=points, length=length, mean=mean, scale=scale, factor=factor, solved=solved
                    ),
                )
    assert best is not None
    return best[1]


def expected_improvement(process: Process, where: Floats, best: float) -> Floats:
    """EI [M] over `best` at points [M, N]; 0 where nothing is unknown and nothing better is expected."""
    mean, deviation = process.at(where)
    gain = mean - best
    z = np.divide(gain, deviation, out=np.zeros_like(gain), where=deviation > 0)
    found = gain * stats.norm.cdf(z) + deviation * stats.norm.pdf(z)
    return np.where(deviation > 0, found, np.maximum(gain, 0.0))


def bayesian(value: Callable[[Weights], float], num_experts: int, num: int, *, seed: int) -> list[Weights]:
    """The points measured, in order: corners and the uniform one first, `num` in all (N + 1 at the least).

    `value` is to be high; the best of what it gave is the caller's to take.
    """
    tried = [*corners(num_experts), uniform(num_experts)]
    values = [value(w) for w in tried]
    grid = [w for steps in (10, 20) if num_experts <= 3 for w in lattice(num_experts, steps)]
    pool = list(dict.fromkeys([*grid, *dirichlet(num_experts, max(_CANDIDATES, num), seed)]))
    while len(tried) < num:
        open_still = np.array([w for w in pool if w not in tried])
        process = fit(np.array(tried), np.array(values))
        # Against the smoothed best: one lucky measurement is not to be chased.
        best = float(process.at(np.array(tried))[0].max())
        chosen = open_still[int(np.argmax(expected_improvement(process, open_still, best)))]
        tried.append(tuple(float(w) for w in chosen))
        values.append(value(tried[-1]))
    return tried


def grid_points(num_experts: int, num: int) -> list[Weights]:
    """The coarsest lattice of at least `num` points."""
    steps = 1
    while len(lattice(num_experts, steps)) < num and num_experts > 1:
        steps += 1
    return lattice(num_experts, steps)


def _kernel(a: Floats, b: Floats, length: float) -> Floats:
    squares = ((a[:, None, :] - b[None, :, :]) ** 2).sum(axis=2)
    return np.exp(-squares / (2 * length**2))
