"""Agreement against published values and scikit-learn's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from trueup.statistics.agreement import cohen_kappa, krippendorff_alpha, mean_kappa

# Krippendorff 2011, "Computing Krippendorff's alpha-reliability", example D: 4 observers, 12 units.
OBSERVED = (
    "1 2 3 3 2 1 4 1 2 . . .",
    "1 2 3 3 2 2 4 1 2 5 . 3",
    ". 3 3 3 2 3 4 2 2 5 1 .",
    "1 2 3 3 2 4 4 1 2 5 1 .",
)
UNITS = [
    [float(v) for v in unit if v != "."] for unit in zip(*(row.split() for row in OBSERVED), strict=True)
]


@pytest.mark.parametrize(("metric", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_of_the_published_example(metric: str, alpha: float) -> None:
    found = krippendorff_alpha(UNITS, metric)  # pyright: ignore[reportArgumentType]
    assert found is not None
    assert round(found.mean, 3) == alpha and found.n == 11
    assert found.low < found.mean < found.high <= 1


def test_alpha_of_one_mind_of_chance_and_of_nothing() -> None:
    same = krippendorff_alpha([[0, 0], [1, 1], [0, 0]])
    assert same is not None and same.mean == 1
    drawn = np.random.default_rng(0).integers(0, 2, (2000, 3)).astype(float).tolist()
    chance = krippendorff_alpha(drawn)
    assert chance is not None and abs(chance.mean) < 0.04 and chance.low < 0 < chance.high
    for units in ([], [[1.0]], [[1.0], [2.0, 2.0]], [[1.0, 1.0], [1.0, 1.0]]):
        assert krippendorff_alpha(units) is None


def test_the_interval_of_alpha_holds_the_truth() -> None:
    """Two people who say the same value with probability 0.8: alpha is 0.6, which is 0.8 · 2 - 1."""
    random, held = np.random.default_rng(1), 0
    for _ in range(30):
        one = random.integers(0, 2, 120)
        other = np.where(random.random(120) < 0.8, one, 1 - one)
        found = krippendorff_alpha(np.stack([one, other], 1).astype(float).tolist())
        assert found is not None
        held += found.low <= 0.6 <= found.high
    assert held >= 26


def test_kappa_is_that_of_scikit_learn() -> None:
    random = np.random.default_rng(2)
    for _ in range(20):
        one, other = random.integers(0, 3, (2, 30)).tolist()
        kappa = cohen_kappa(one, other)
        assert kappa is not None and math.isclose(kappa, cohen_kappa_score(one, other), abs_tol=1e-12)
    assert cohen_kappa([1, 1], [1, 1]) is None and cohen_kappa([], []) is None


def test_the_mean_of_kappa_weighs_pairs_of_people_by_what_both_judged() -> None:
    said = {n: {"a": n % 2, "b": n % 2} for n in range(6)} | {
        n: {"a": n % 2, "c": 1 - n % 2} for n in range(6, 8)
    }
    assert mean_kappa(said) == pytest.approx((6 * 1.0 + 2 * -1.0) / 8)
    assert mean_kappa({0: {"a": 1}}) is None
