"""How far people agree beyond chance: Krippendorff's α for any number of them, Cohen's κ for two.

Units are what was judged; a unit that one person judged says nothing of agreement and is left out.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from itertools import combinations
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trueup.statistics.estimates import Estimate

Floats = NDArray[np.float64]
Metric = Literal["nominal", "ordinal", "interval"]
RESAMPLES = 1000


def krippendorff_alpha(
    units: Sequence[Sequence[float]], metric: Metric = "nominal", *, level: float = 0.95, seed: int = 0
) -> Estimate | None:
    """α = 1 - D_o / D_e over the values of each unit, with its bootstrap interval over units.

    D_o = Σ_ck o_ck δ²_ck / n and D_e = Σ_ck n_c n_k δ²_ck / (n (n - 1)), where n_c = Σ_k o_ck and
    o_ck = Σ_u n_uc (n_uk - [c = k]) / (m_u - 1) counts the pairs of values within units of m_u values
    (Krippendorff 2004, chapter 11). δ² is [c ≠ k], (c - k)², or for ordinal values
    (Σ_{g=c..k} n_g - (n_c + n_k)/2)². 1 is perfect agreement, 0 that of chance. None where fewer than two
    units have two values, or all values are one.
    """
    kept = [list(unit) for unit in units if len(unit) > 1]
    values = sorted({value for unit in kept for value in unit})
    if len(kept) < 2 or len(values) < 2:
        return None
    at = {value: place for place, value in enumerate(values)}
    counts = np.zeros((len(kept), len(values)))
    for row, unit in enumerate(kept):
        for value in unit:
            counts[row, at[value]] += 1
    size = counts.sum(axis=1)
    pairs = counts[:, :, None] * counts[:, None, :] - np.eye(len(values)) * counts[:, :, None]
    pairs /= (size - 1)[:, None, None]
    whole = np.ones((1, len(kept)))
    drawn = np.random.default_rng(seed).multinomial(len(kept), [1 / len(kept)] * len(kept), RESAMPLES)
    weights = np.concatenate([whole, drawn.astype(np.float64)])
    found = _alphas(weights, pairs, np.asarray(values, np.float64), metric)
    many = found[1:][np.isfinite(found[1:])]
    low, high = np.quantile(many, [(1 - level) / 2, (1 + level) / 2]) if len(many) > 1 else (math.nan,) * 2
    error = float(many.std(ddof=1)) if len(many) > 1 else math.nan
    return Estimate(
        mean=float(found[0]), low=float(low), high=float(high), n=len(kept), standard_error=error, level=level
    )


def _alphas(weights: Floats, pairs: Floats, values: Floats, metric: Metric) -> Floats:
    """α of each of R weightings of the units, [R]; NaN where all values are one."""
    seen = np.einsum("ru,uck->rck", weights, pairs)
    by_value = seen.sum(axis=2)
    total = by_value.sum(axis=1)
    apart = _apart(by_value, values, metric)
    observed = (seen * apart).sum(axis=(1, 2)) / total
    expected = np.einsum("rc,rk,rck->r", by_value, by_value, apart) / (total * (total - 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(expected > 0, 1 - observed / expected, np.nan)


def _apart(by_value: Floats, values: Floats, metric: Metric) -> Floats:
    """δ² of every two values, [R, V, V]."""
    if metric == "ordinal":
        middle = by_value.cumsum(axis=1) - by_value / 2
        return (middle[:, :, None] - middle[:, None, :]) ** 2
    gap = values[:, None] - values[None, :]
    apart = (gap != 0).astype(np.float64) if metric == "nominal" else gap**2
    return np.broadcast_to(apart, (len(by_value), *apart.shape))


def cohen_kappa(one: Sequence[Hashable], other: Sequence[Hashable]) -> float | None:
    """κ = (p_o - p_e) / (1 - p_e) of two people's values on the same units (Cohen 1960).

    p_o is the share of equal values, p_e = Σ_v p_v q_v that of chance. None where p_e is 1, or on no unit.
    """
    if not one:
        return None
    values = set(one) | set(other)
    same = sum(a == b for a, b in zip(one, other, strict=True)) / len(one)
    chance = sum(one.count(v) * other.count(v) for v in values) / len(one) ** 2
    return None if chance == 1 else (same - chance) / (1 - chance)


def mean_kappa(said: Mapping[Any, Mapping[str, Hashable]]) -> float | None:
    """The mean of Cohen's κ over every two people, weighted by the units that both judged.

    `said` has each unit's values by person. None where no two people have a κ.
    """
    people = sorted({who for values in said.values() for who in values})
    total = weight = 0.0
    for a, b in combinations(people, 2):
        both = [(values[a], values[b]) for values in said.values() if a in values and b in values]
        kappa = cohen_kappa([x for x, _ in both], [y for _, y in both])
        if kappa is not None:
            total, weight = total + kappa * len(both), weight + len(both)
    return total / weight if weight else None
