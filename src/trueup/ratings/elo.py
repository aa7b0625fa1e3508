"""The Elo scale, and the online rule that gave it its name.

A rating is R = (400 / ln 10) · β + 1000, so
that P(a beats b) = σ(β_a - β_b) = 1 / (1 + 10^{-(R_a - R_b)/400}):
400 points ahead are odds of ten to one. (R = 400 β would hold for a β in units of log base 10.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

SCALE = 400.0 / math.log(10.0)
"Points for one nat of log-odds: 173.7178."
CENTRE = 1000.0
"The rating of an average model."
STEP = 4.0
"The online rule's K, in points: what Chatbot Arena used (Chiang 2024)."


def elo_points(beta: ArrayLike) -> Floats:
    """Log-odds β in nats as ratings, (400 / ln 10) · β + 1000 (Elo 1978)."""
    return SCALE * np.asarray(beta, np.float64) + CENTRE


def expected_score(points: ArrayLike) -> Floats:
    """The chance of winning for one who is `points` ahead: 1 / (1 + 10^{-points/400}); at 400, 10/11."""
    return 1.0 / (1.0 + 10.0 ** (-np.asarray(points, np.float64) / 400.0))


def online_elo(
    a: Sequence[int], b: Sequence[int], wins: Sequence[float], num_models: int, *, step: float = STEP
) -> list[float]:
    """The ratings after the battles in the order given, all models starting at 1000 (Elo 1978).

    R_a += K (s - P(a beats b)) and R_b -= the same, so the sum is conserved. It is stochastic gradient
    descent on the Bradley-Terry loss with a fixed step: it never settles, and depends on the order.
    `wins` is a's share s of each battle: 1, ½ or 0.
    """
    ratings = [CENTRE] * num_models
    for one, other, s in zip(a, b, wins, strict=True):
        expected = 1.0 / (1.0 + 10.0 ** ((ratings[other] - ratings[one]) / 400.0))
        gained = step * (s - expected)
        ratings[one] += gained
        ratings[other] -= gained
    return ratings


def elo_over_orders(
    a: ArrayLike,
    b: ArrayLike,
    wins: ArrayLike,
    num_models: int,
    *,
    orders: int = 50,
    seed: int = 0,
    step: float = STEP,
) -> Floats:
    """What `online_elo` would say in `orders` random orders of the same battles: [orders, num_models]."""
    first, second = np.asarray(a, np.int64), np.asarray(b, np.int64)
    share = np.asarray(wins, np.float64)
    rng = np.random.default_rng(seed)
    order = np.stack([rng.permutation(len(share)) for _ in range(orders)])
    ratings = np.full((orders, num_models), CENTRE)
    each = np.arange(orders)
    for battle in order.T:
        one, other = first[battle], second[battle]
        gained = step * (share[battle] - expected_score(ratings[each, one] - ratings[each, other]))
        ratings[each, one] += gained
        ratings[each, other] -= gained
    return ratings
