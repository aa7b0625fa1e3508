"""Which two models meet next, so that ratings are decided soonest.

What battles have said so far is a normal approximation of the posterior of the strengths: mode θ and
covariance V = (Σ_m p_m (1 - p_m) x_m x_mᵀ + 2α I)⁻¹, with x = e_a - e_b and P(a beats b) = p = σ(θ_a - θ_b).
A battle of two models would add p (1 - p) x xᵀ to the inverse, and so take

    p (1 - p) (Vx)(Vx)ᵀ / (1 + p (1 - p) xᵀVx)

from V, whoever wins (Chernoff 1953: designs that are best at the present estimate).

width     what takes most from Σ_i Var(θ_i - mean θ), the summed variance of the ratings that are printed
          (A-optimality; Chaloner and Verdinelli 1995)
order     `width` and, every other time, what takes most from the expected loss of ranking by θ,
          Σ_{i<j} s_ij φ(d_ij / s_ij) - |d_ij| Φ(-|d_ij| / s_ij), by how far a worse one would stand above a
          better one (linear loss of Chick and Inoue 2001), to first order in Var: φ(d/s) / (2 s) of each pair
uniform   the two that met least

Turn and turn about keeps `order` honest: what only asks where it is in doubt stops asking where chance was
large, and its intervals hold the truth less often than they say (as in top-two sampling: Russo 2016).
"""

from __future__ import annotations

from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from trueup.ratings.likelihood import Design, Floats, gauge, hessians, maximise

Pairing = Literal["order", "width", "uniform"]
Integers = NDArray[np.int64]
ALPHA = 0.25
"""Of the normal prior on each strength, in the choice of battles alone: a standard deviation of 1.4 nats, 246
points. Ratings are fitted without it."""


def all_pairs(size: int) -> Integers:
    """Every two of `size` models, [pairs, 2], the smaller first."""
    return np.array(list(combinations(range(size), 2)), np.int64).reshape(-1, 2)


def posterior(wins: Floats, size: int, alpha: float = ALPHA) -> tuple[Floats, Floats]:
    """θ [R, size] and V [R, size, size] after battles.

    `wins` [R, 2, pairs] are those of the first and of the second model of `all_pairs`; a tie is half of one
    each.
    """
    pairs = all_pairs(size)
    x = np.zeros((len(pairs), size))
    x[np.arange(len(pairs)), pairs[:, 0]], x[np.arange(len(pairs)), pairs[:, 1]] = 1.0, -1.0
    ends = np.repeat([1.0, 0.0], len(pairs))
    design = Design(x=np.concatenate([x, x]), y=ends, centred=size, rule="half", alpha=alpha)
    weights = wins.reshape(len(wins), -1)
    theta = maximise(design, weights).parameters
    precision = hessians(design, theta, weights) + gauge(design)
    return theta, np.asarray(np.linalg.inv(precision), np.float64)


def next_pairs(
    theta: Floats, covariance: Floats, met: Integers, left: Integers, *, num: int, pairing: Pairing
) -> Integers:
    """The next `num` pairs of each of R worlds, as places in `all_pairs`: [R, num], -1 where none is left.

    `met` [R, pairs] counts the battles so far, `left` those that are still possible. Chosen one after the
    other, each as if those before it had been fought; so fewer are the beginning of more.
    """
    size, worlds = theta.shape[1], np.arange(len(theta))
    ends = all_pairs(size)
    met, left, v = met.copy(), left.copy(), covariance.copy()
    gap = theta[:, ends[:, 0]] - theta[:, ends[:, 1]]
    weight = expit(gap) * expit(-gap)
    found = np.full((len(theta), num), -1, np.int64)
    for at in range(num):
        if pairing == "uniform":
            gain = -met.astype(np.float64)
        else:
            by_order = (pairing == "order") & (met.sum(axis=1) % 2 == 1)
            gain = _gain(v, gap, weight, ends, by_order)
        gain = np.where(left > 0, gain, -np.inf)
        best = gain.argmax(axis=1)
        some = left[worlds, best] > 0
        found[some, at] = best[some]
        met[worlds, best] += some
        left[worlds, best] -= some
        moved = v[worlds, :, ends[best, 0]] - v[worlds, :, ends[best, 1]]
        share = some * weight[worlds, best]
        share /= 1 + share * (moved[worlds, ends[best, 0]] - moved[worlds, ends[best, 1]])
        v -= share[:, None, None] * moved[:, :, None] * moved[:, None, :]
    return found


def _gain(v: Floats, gap: Floats, weight: Floats, ends: Integers, by_order: NDArray[np.bool_]) -> Floats:
    """What a battle of each pair takes from the criterion: [R, pairs]."""
    moved = v[:, ends[:, 0]] - v[:, ends[:, 1]]  # Vx of each pair, [R, pairs, size]
    across = moved[:, :, ends[:, 0]] - moved[:, :, ends[:, 1]]  # xᵀVx of every two pairs
    own = np.diagonal(across, axis1=1, axis2=2)
    centred = moved - moved.mean(axis=2, keepdims=True)
    gain = (centred**2).sum(axis=2)
    if by_order.any():
        error = np.sqrt(own)
        doubt = np.exp(-0.5 * (gap / error) ** 2) / error
        gain = np.where(by_order[:, None], np.einsum("rpq,rq->rp", across**2, doubt), gain)
    return gain * weight / (1 + weight * own)
