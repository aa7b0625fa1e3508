"""Pareto filter, hypervolume and weights against brute force and closed forms."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest

from trueup.errors import TrueupError
from trueup.soups.pareto import front, hypervolume
from trueup.soups.simplex import check, corners, dirichlet, lattice


def dominated(points: np.ndarray, i: int) -> bool:
    """By the definition, one pair at a time."""
    return any(all(u >= points[i]) and any(u > points[i]) for u in points)


def by_inclusion_exclusion(points: np.ndarray, reference: np.ndarray) -> float:
    """Σ over non-empty subsets, (−1)^(size + 1) · volume of the boxes' intersection."""
    total = 0.0
    for size in range(1, len(points) + 1):
        for subset in combinations(points, size):
            corner = np.min(subset, axis=0)
            total += (-1) ** (size + 1) * np.prod(np.maximum(corner - reference, 0.0))
    return float(total)


def test_the_front_is_what_nothing_dominates() -> None:
    rng = np.random.default_rng(0)
    for num_rewards in (1, 2, 3, 4):
        points = rng.integers(0, 4, (30, num_rewards)).astype(float)  # many ties, many equal points
        kept = front(points)
        assert kept.tolist() == [i for i in range(30) if not dominated(points, i)]
        assert front(points[kept]).tolist() == list(range(len(kept))), "filtering twice is filtering once"


def test_hypervolume_by_hand_and_by_inclusion_and_exclusion() -> None:
    """(3, 1) covers 3, (2, 2) adds 2, (1, 3) adds 1."""
    assert hypervolume([(1, 3), (2, 2), (3, 1)], (0, 0)) == 6
    rng = np.random.default_rng(1)
    for num_rewards in (1, 2, 3, 4):
        for _ in range(10):
            points = rng.normal(size=(7, num_rewards)).round(1)
            reference = rng.normal(size=num_rewards) - 0.5
            wanted = by_inclusion_exclusion(points, reference)
            assert hypervolume(points, reference) == pytest.approx(wanted, abs=1e-12)
            assert hypervolume(points[front(points)], reference) == pytest.approx(wanted, abs=1e-12)


def test_more_points_never_cover_less() -> None:
    points = np.random.default_rng(2).uniform(size=(20, 3))
    covered = [hypervolume(points[:n], np.zeros(3)) for n in range(1, 21)]
    assert all(b >= a for a, b in pairwise(covered)) and covered[-1] < 1


def test_wrong_points_are_refused() -> None:
    for points, reference in (([1.0, 2.0], [0.0]), ([[np.nan, 1.0]], [0.0, 0.0]), ([[1.0, 1.0]], [0.0])):
        with pytest.raises(TrueupError, match="E829"):
            hypervolume(points, reference)


def test_weights_lie_on_the_simplex() -> None:
    assert lattice(2, 4) == [(0, 1), (0.25, 0.75), (0.5, 0.5), (0.75, 0.25), (1, 0)]
    assert len(lattice(4, 5)) == 56 and set(corners(4)) <= set(lattice(4, 5))
    for weights in [*lattice(3, 7), *dirichlet(3, 50, 0)]:
        assert check(weights, 3) == weights
    # Uniform on the simplex: each coordinate has mean 1/3 and variance 2 / (9 · 4).
    drawn = np.array(dirichlet(3, 20_000, 1))
    assert drawn.mean(axis=0) == pytest.approx(1 / 3, abs=0.01)
    assert drawn.var(axis=0) == pytest.approx(1 / 18, abs=0.003)
    for wrong in ((0.5,), (0.6, 0.6), (-0.1, 1.1), (float("nan"), 1.0)):
        with pytest.raises(TrueupError, match="E736"):
            check(wrong, 2)
