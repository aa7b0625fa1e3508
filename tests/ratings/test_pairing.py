"""Who meets next: the pair that takes most from the criterion, computed by hand of every pair."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import norm

from trueup.ratings.pairing import Pairing, all_pairs, next_pairs, posterior

SIZE = 5
PAIRS = all_pairs(SIZE)
X = np.eye(SIZE)[PAIRS[:, 0]] - np.eye(SIZE)[PAIRS[:, 1]]


def drawn(worlds: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """θ, V and the counts of some worlds with a few battles of every pair, an odd number in all."""
    rng = np.random.default_rng(0)
    met = rng.integers(1, 6, size=(worlds, len(PAIRS)))
    met[:, 0] += 1 - met.sum(axis=1) % 2
    won = rng.binomial(met, expit(X @ np.array([1.0, 0.5, 0.0, -0.3, -1.2])))
    theta, covariance = posterior(np.stack([won, met - won], axis=1).astype(float), SIZE)
    return theta, covariance, met


def after(covariance: np.ndarray, theta: np.ndarray, pair: int, share: float = 1.0) -> np.ndarray:
    """V once a pair has fought: the inverse of V⁻¹ + p (1 - p) x xᵀ."""
    p = expit(X[pair] @ theta)
    return np.linalg.inv(np.linalg.inv(covariance) + share * p * (1 - p) * np.outer(X[pair], X[pair]))


def loss(covariance: np.ndarray, theta: np.ndarray) -> float:
    """The expected loss of ranking by θ, summed over pairs."""
    gap, error = np.abs(X @ theta), np.sqrt(np.einsum("pi,ij,pj->p", X, covariance, X))
    return float((error * norm.pdf(gap / error) - gap * norm.cdf(-gap / error)).sum())


def test_the_posterior_of_two_models() -> None:
    # 3 wins to 1: α ‖θ‖² = α d²/2 with d = 2θ, so the mode solves 3 - 4 σ(d) = α d, and 1/Var(d) is
    # 4 p (1 - p) + α.
    theta, covariance = posterior(np.array([[[3.0], [1.0]]]), 2, alpha=0.25)
    d = theta[0, 0] - theta[0, 1]
    assert 3 - 4 * expit(d) == pytest.approx(0.25 * d, abs=1e-10)
    variance = covariance[0, 0, 0] + covariance[0, 1, 1] - 2 * covariance[0, 0, 1]
    p = expit(d)
    assert 1 / variance == pytest.approx(4 * p * (1 - p) + 0.25, abs=1e-10)


def test_width_takes_most_from_the_variance_of_the_ratings() -> None:
    theta, covariance, met = drawn()
    centre = np.eye(SIZE) - 1 / SIZE
    chosen = next_pairs(theta, covariance, met, np.full_like(met, 9), num=1, pairing="width")[:, 0]
    for world, pair in enumerate(chosen):
        left = [
            np.trace(centre @ after(covariance[world], theta[world], p) @ centre) for p in range(len(PAIRS))
        ]
        assert pair == int(np.argmin(left))


def test_order_takes_most_from_the_loss_of_a_wrong_order() -> None:
    # To first order: of a battle that says a ten-thousandth of what one says.
    theta, covariance, met = drawn()
    chosen = next_pairs(theta, covariance, met, np.full_like(met, 9), num=1, pairing="order")[:, 0]
    for world, pair in enumerate(chosen):
        v, at = covariance[world], theta[world]
        p = expit(X @ at)
        # What a whole battle takes is what a small part takes, over 1 + p (1 - p) xᵀVx.
        whole = 1 + p * (1 - p) * np.einsum("pi,ij,pj->p", X, v, X)
        taken = [(loss(v, at) - loss(after(v, at, k, 1e-4), at)) / whole[k] for k in range(len(PAIRS))]
        assert pair == int(np.argmax(taken))


def test_every_other_battle_is_chosen_by_width() -> None:
    theta, covariance, met = drawn()
    met[:, 0] += 1
    both: list[Pairing] = ["order", "width"]
    order, width = (next_pairs(theta, covariance, met, met * 0 + 9, num=1, pairing=p) for p in both)
    assert (order == width).all()


@pytest.mark.parametrize("pairing", ["order", "width", "uniform"])
def test_fewer_are_the_beginning_of_more_and_none_is_left_over(pairing: Pairing) -> None:
    theta, covariance, met = drawn()
    left = np.full_like(met, 2)
    many = next_pairs(theta, covariance, met, left, num=25, pairing=pairing)
    assert (many[:, :7] == next_pairs(theta, covariance, met, left, num=7, pairing=pairing)).all()
    assert (many[:, 20:] == -1).all()
    for row in many[:, :20]:
        assert np.bincount(row, minlength=len(PAIRS)).tolist() == [2] * len(PAIRS)


def test_uniform_has_all_meet_alike() -> None:
    theta, covariance, met = drawn()
    more = next_pairs(theta, covariance, met * 0, met * 0 + 99, num=23, pairing="uniform")
    for row in more:
        count = np.bincount(row, minlength=len(PAIRS))
        assert count.max() - count.min() == 1


@pytest.mark.slow  # simulated battles by the hundred
def test_what_the_page_of_results_says() -> None:
    """Each is looser than results/battles.md, for the chance of 200 repeats in place of 1,000."""
    from measure_battles import coverage, efficiency, saved, spread_over

    truth = spread_over(400)
    uniform, order, width = (efficiency(truth, rule, 200) for rule in ("uniform", "order", "width"))
    assert saved(order, uniform, 2) > 0.15, "pairs decided"
    assert saved(order, uniform, 3) > 0.20, "steps in order"
    assert saved(width, uniform, 0) > 0.01, "intervals of ratings"
    for rule in ("order", "width", "uniform"):
        held, _ = coverage(rule, 200)
        assert 0.93 <= held <= 0.97
