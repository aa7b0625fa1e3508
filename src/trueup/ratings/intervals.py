"""How far off ratings may be: the sandwich and the bootstrap, over prompts."""

from __future__ import annotations

import numpy as np
from scipy import stats

from trueup.ratings.design import Rows
from trueup.ratings.likelihood import Fits, Floats, gauge, gradients, hessians, maximise

_CELLS = 8_000_000
"Numbers of a table of resampled clusters built at once (64 MB)."
_EXACT = 1e-9
"How far from what was foreseen is rounding, for each battle."


def sandwich(rows: Rows, parameters: Floats) -> Floats:
    """The covariance of the parameters, [P, P]: G/(G-1) H⁻¹ (Σ_c g_c g_cᵀ) H⁻¹ over the G clusters.

    H is minus the second derivative of the penalised log-likelihood and g_c the gradient of what cluster c
    adds to it (White 1982; Liang 1986): right also where the model is not, and where battles of one prompt
    depend on each other. Only contrasts that leave Σ β out mean anything. `agreement` is added.
    """
    inverse = _inverse(rows, parameters)
    each = gradients(rows.design, parameters)
    if rows.cluster == "battle":
        squared = rows.membership.multiply(rows.membership).sum(axis=0)
        meat = (each.T * np.asarray(squared, np.float64).reshape(-1)) @ each
    else:
        summed = rows.membership @ each
        meat = summed.T @ summed
    count = rows.num_clusters
    return count / (count - 1) * inverse @ meat @ inverse + agreement(rows, parameters)


def agreement(rows: Rows, parameters: Floats) -> Floats:
    """The covariance of two models whose battles went exactly as foreseen in each of k clusters, [P, P].

    There g_c is 0, as after ties alone, and the sandwich would know their difference to the last digit. As
    Agresti and Coull 1998 do for shares, two clusters that one of them won and two that the other won are
    thought to be there: H⁻¹ M H⁻¹ with M = (k / (k + 4))² · 4 · ¼ · w̄², w̄² the mean squared weight of a
    cluster. 0 where no two models are so.
    """
    pairs, residual = np.sort(np.stack([rows.a, rows.b]), axis=0), gradients(rows.design, parameters)
    against = residual[np.arange(len(rows.a)), rows.a]  # (y - p) of each row
    signed = np.where(rows.a < rows.b, against, -against)
    meat = np.zeros((len(parameters), len(parameters)))
    for one, other in np.unique(pairs, axis=1).T:
        mine = (pairs[0] == one) & (pairs[1] == other)
        weight = rows.membership @ mine.astype(np.float64)
        off = rows.membership @ np.where(mine, signed, 0.0)
        if (np.abs(off) > _EXACT * np.maximum(weight, 1.0)).any():
            continue
        held = weight[weight > 0]
        apart = np.zeros(len(parameters))
        apart[one], apart[other] = 1.0, -1.0
        meat += (len(held) / (len(held) + 4)) ** 2 * float(np.mean(held**2)) * np.outer(apart, apart)
    inverse = _inverse(rows, parameters) if meat.any() else meat
    return inverse @ meat @ inverse


def _inverse(rows: Rows, parameters: Floats) -> Floats:
    design = rows.design
    hessian = hessians(design, parameters[None], rows.weights[None])[0]
    return np.linalg.inv(hessian + gauge(design) * rows.weights.sum())


def bootstrap(rows: Rows, parameters: Floats, *, resamples: int, seed: int) -> Fits:
    """The fits to `resamples` draws of G clusters with replacement (Efron 1979), from `parameters` on."""
    rng = np.random.default_rng(seed)
    count = rows.num_clusters
    size = max(1, _CELLS // count)
    even = np.full(count, 1.0 / count)
    found = []
    for start in range(0, resamples, size):
        drawn = rng.multinomial(count, even, size=min(size, resamples - start)).astype(np.float64)
        weights = np.ascontiguousarray((rows.membership.T @ drawn.T).T)  # [resamples, rows]
        found.append(maximise(rows.design, weights, parameters))
    return Fits(np.concatenate([f.parameters for f in found]), np.concatenate([f.converged for f in found]))


def quantile(level: float, num_clusters: int) -> float:
    """The half width of an interval in standard errors: Student's t with G - 1 degrees of freedom."""
    return float(stats.t.ppf(0.5 + level / 2, num_clusters - 1))


def tail(level: float, num_clusters: int) -> float:
    """What share of resamples lies beyond each end of an interval: Φ(-√(G/(G-1)) t).

    Hesterberg 2015: plain percentiles miss the factor √(G/(G-1)) and Student's longer tails, so they are too
    narrow. With 150 resamples of 40 prompts they held the truth in 92.6 % of 500 draws, these in 94.8 %.
    """
    wide = np.sqrt(num_clusters / (num_clusters - 1)) * quantile(level, num_clusters)
    return float(stats.norm.cdf(-wide))
