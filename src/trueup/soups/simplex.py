"""Weights of a mixture: points of the simplex, none below 0 and their sum 1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations, pairwise

import numpy as np

from trueup.errors import TrueupError, counted

Weights = tuple[float, ...]
ROUNDING = 1e-9
"How far a sum of weights may be from 1: decimals such as .1, .2, .7 do not add up to 1 exactly."
_MOST = 100_000


def uniform(num_experts: int) -> Weights:
    """Every expert alike: 1 / N each."""
    return (1.0 / num_experts,) * num_experts


def corners(num_experts: int) -> list[Weights]:
    """The N one-hot points: each expert alone."""
    return [tuple(float(i == j) for j in range(num_experts)) for i in range(num_experts)]


def check(weights: Sequence[float], num_experts: int, *, simplex: bool = True) -> Weights:
    """The weights as a tuple. Raises E736 for another number of them, for one that is not finite, and, with
    `simplex`, for one below 0 or a sum that is not 1."""
    given = tuple(float(w) for w in weights)
    wrong = ""
    if len(given) != num_experts:
        wrong = f"{counted(len(given), 'weight')} for {counted(num_experts, 'expert')}"
    elif not all(math.isfinite(w) for w in given):
        wrong = "a weight is not finite"
    elif simplex and (min(given) < 0 or abs(sum(given) - 1) > ROUNDING):
        wrong = f"the weights {', '.join(f'{w:g}' for w in given)} leave the simplex"
    if wrong:
        raise TrueupError("E736", wrong, where="weights", remedy="one for each expert, none below 0, sum 1")
    return given


def lattice(num_experts: int, steps: int) -> list[Weights]:
    """Every point whose coordinates are multiples of 1 / steps, corners included: C(steps + N − 1, N − 1).

    For two experts that is `steps` + 1 points, from the second expert alone to the first. Raises E736 for
    more points than anybody measures.
    """
    if steps < 1 or math.comb(steps + num_experts - 1, num_experts - 1) > _MOST:
        raise TrueupError(
            "E736",
            f"a grid of {steps} steps over {num_experts} experts",
            where="steps",
            remedy="at least one step, and few of them for many experts; or draw from a Dirichlet",
        )
    points = []
    for bars in combinations(range(steps + num_experts - 1), num_experts - 1):
        edges = (-1, *bars, steps + num_experts - 1)
        points.append(tuple((b - a - 1) / steps for a, b in pairwise(edges)))
    return points


def dirichlet(num_experts: int, num: int, seed: int) -> list[Weights]:
    """`num` points uniform on the simplex, Dirichlet(1, ..., 1)."""
    drawn = np.random.default_rng(seed).dirichlet(np.ones(num_experts), size=num)
    return [tuple(float(w) for w in row / row.sum()) for row in drawn]
