"""Points in several rewards, all to be high: which are dominated, and how much a set of them covers.

v is dominated by u where u ≥ v in every reward and u > v in one. The hypervolume of a set A over a reference
point z is the volume of what A dominates there,

    HV(A; z) = vol( ∪_{a ∈ A} [z, a] )

(Zitzler & Thiele 1999.) It is computed exactly, by cutting along the last reward and adding up the slabs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trueup.errors import TrueupError

Floats = NDArray[np.float64]


def front(points: ArrayLike) -> NDArray[np.intp]:
    """The indices of the points [num, K] that no other dominates, in order; of equal points, all."""
    values = _table(points)
    above = np.all(values[None, :, :] >= values[:, None, :], axis=2)
    better = np.any(values[None, :, :] > values[:, None, :], axis=2)
    return np.flatnonzero(~np.any(above & better, axis=1))


def hypervolume(points: ArrayLike, reference: ArrayLike) -> float:
    """HV of points [num, K] over the reference [K]; a point not above it in every reward adds nothing.

    Exact for any K; the work grows as num^(K − 1).
    """
    values, corner = _table(points), np.asarray(reference, np.float64)
    if corner.shape != (values.shape[1],) or not np.isfinite(corner).all():
        raise TrueupError(
            "E829",
            f"a reference of shape {corner.shape} for points {values.shape}",
            where="hypervolume",
            remedy="give a number for each reward",
        )
    inside = values[(values > corner).all(axis=1)]
    return _volume(inside - corner)


def _volume(above: Floats) -> float:
    """The volume of the union of the boxes [0, a], a in `above` [num, K], all of them positive."""
    if len(above) == 0:
        return 0.0
    if above.shape[1] == 1:
        return float(above.max())
    if above.shape[1] == 2:
        return _area(above)
    falling = above[np.argsort(-above[:, -1], kind="stable")]
    heights = np.append(falling[:, -1], 0.0)
    # Between two heights the cross-section is that of the points at least as high.
    return sum(
        (heights[i] - heights[i + 1]) * _volume(falling[: i + 1, :-1])
        for i in range(len(falling))
        if heights[i] > heights[i + 1]
    )


def _area(above: Floats) -> float:
    """Two rewards: from the right to the left, every point adds what rises above those before it."""
    falling = above[np.lexsort((-above[:, 1], -above[:, 0]))]
    reached = np.maximum.accumulate(np.append(0.0, falling[:, 1]))
    return float((falling[:, 0] * np.diff(reached)).sum())


def _table(points: ArrayLike) -> Floats:
    values = np.asarray(points, np.float64)
    if values.ndim != 2 or values.shape[1] < 1 or not np.isfinite(values).all():
        raise TrueupError(
            "E829",
            f"points of shape {values.shape}" if values.ndim != 2 else "a reward is not finite",
            where="points",
            remedy="give finite numbers [num_points, num_rewards]",
        )
    return values
