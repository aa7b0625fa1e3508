"""Curves of over-optimisation: known α and β come back, peaks in closed form, intervals, the stop rule."""

from __future__ import annotations

import math

import numpy as np
import pytest

from trueup.errors import TrueupError
from trueup.statistics.estimates import best_of_n_kl_bound
from trueup.statistics.frontier import Fit, Optimiser, first_fall, fit_curve, lost_share, turn

E = math.e


def curve(optimiser: Optimiser, alpha: float, beta: float, d: np.ndarray) -> np.ndarray:
    """R(d), said again."""
    return d * (alpha - beta * d) if optimiser == "best_of_n" else d * (alpha - beta * np.log(d))


def test_best_of_n_by_hand() -> None:
    """α = 1, β = 1/4: R(1) = .75, R(2) = 2 (1 − .5) = 1, R(3) = 3 · .25 = .75; peak d = 1 / .5 = 2, R = 1."""
    found = fit_curve([1.0, 4.0, 9.0], [0.75, 1.0, 0.75], "best_of_n")
    assert (found.alpha.mean, found.beta.mean) == pytest.approx((1.0, 0.25))
    distance, reward = found.peak_distance(), found.peak_reward()
    assert distance is not None and distance.mean == pytest.approx(2.0)
    assert reward is not None and reward.mean == pytest.approx(1.0)
    assert found.at(0.0).mean == 0.0
    assert found.slope(2.0).mean == pytest.approx(0.0, abs=1e-12)


def test_reinforcement_learning_by_hand() -> None:
    """α = 1, β = 1/2: R(1) = 1, R(e) = e (1 − ½), R(e²) = e² (1 − 1) = 0; peak d = e^(2 − 1) = e, R = e/2.

    The best-of-n form through the same points would put the peak elsewhere.
    """
    kl, reward = [1.0, E**2, E**4], [1.0, E / 2, 0.0]
    found = fit_curve(kl, reward, "rl")
    assert (found.alpha.mean, found.beta.mean) == pytest.approx((1.0, 0.5))
    distance, best = found.peak_distance(), found.peak_reward()
    assert distance is not None and distance.mean == pytest.approx(E)
    assert best is not None and best.mean == pytest.approx(E / 2)
    assert found.at(0.0).mean == 0.0
    assert found.slope(E).mean == pytest.approx(0.0, abs=1e-12)
    other = fit_curve(kl, reward, "best_of_n")
    assert other.residual > 0.1 > found.residual


@pytest.mark.parametrize("optimiser", ["best_of_n", "rl"])
@pytest.mark.parametrize(("alpha", "beta"), [(0.7, 0.15), (2.0, 0.9)])
def test_the_peak_is_the_highest_point_of_a_grid(optimiser: Optimiser, alpha: float, beta: float) -> None:
    d = np.linspace(0.2, 6, 9)
    found = fit_curve(d**2, curve(optimiser, alpha, beta, d), optimiser)
    grid = np.linspace(1e-3, 40, 400_001)
    heights = curve(optimiser, alpha, beta, grid)
    distance, reward = found.peak_distance(), found.peak_reward()
    assert distance is not None and distance.mean == pytest.approx(grid[heights.argmax()], abs=2e-4)
    assert reward is not None and reward.mean == pytest.approx(heights.max(), abs=1e-6)


def test_points_at_no_distance_are_left_out_and_counted() -> None:
    """Best-of-1 has KL 0, and an estimate may lie below it; R(0) = 0 for every α and β."""
    kl = [best_of_n_kl_bound(1), -0.01, 1.0, 4.0, 9.0]
    found = fit_curve(kl, [0.4, -0.3, 0.75, 1.0, 0.75], "best_of_n")
    assert found.left_out == 2 and found.alpha.n == 3
    assert found.alpha.mean == pytest.approx(1.0)


@pytest.mark.parametrize(("kl", "points"), [([1.0, 4.0], 2), ([0.0, 1.0, -1.0, 4.0], 2)])
def test_too_few_points_are_refused(kl: list[float], points: int) -> None:
    with pytest.raises(TrueupError, match=f"E605.*{points} points"):
        fit_curve(kl, [0.1] * len(kl), "rl")


def test_what_is_not_finite_is_refused() -> None:
    with pytest.raises(TrueupError, match="E901"):
        fit_curve([1.0, 2.0, 3.0], [0.1, math.nan, 0.2], "rl")


@pytest.mark.parametrize("optimiser", ["best_of_n", "rl"])
def test_intervals_hold_the_truth_as_often_as_they_say(optimiser: Optimiser) -> None:
    """1,000 noisy runs of 12 points: 95 % intervals of α, β, a slope and the peak hold the truth.

    Within three binomial standard errors, ±2.1 %, for the linear ones; the delta method is an approximation.
    """
    rng = np.random.default_rng(0)
    d = np.linspace(0.5, 6, 12)
    alpha, beta = 1.0, 0.2 if optimiser == "best_of_n" else 0.5
    truth = curve(optimiser, alpha, beta, d)
    slope = alpha - (2 * beta * 3 if optimiser == "best_of_n" else beta * (math.log(3) + 1))
    peak = alpha / (2 * beta) if optimiser == "best_of_n" else math.exp(alpha / beta - 1)
    held = np.zeros((1000, 4))
    for k in range(len(held)):
        found = fit_curve(d**2, truth + 0.1 * rng.normal(size=d.size), optimiser)
        distance = found.peak_distance()
        assert distance is not None
        pairs = ((found.alpha, alpha), (found.beta, beta), (found.slope(3.0), slope), (distance, peak))
        held[k] = [e.low <= value <= e.high for e, value in pairs]
    share = held.mean(axis=0)
    assert share[:3] == pytest.approx([0.95] * 3, abs=0.021)
    assert share[3] == pytest.approx(0.95, abs=0.03)


def test_what_all_points_share_is_counted_by_drawing_prompts() -> None:
    """Prompt j has reward (1 + u_j) d − d²/4: α is 1 + mean(u), so its error is that of a mean; β has none.

    u = ±1 in equal number over 100 prompts: standard error 1/√100 = .1. The spread around the curve is 0,
    so the intervals from it alone would be points.
    """
    d = np.array([1.0, 2.0, 3.0, 4.0])
    u = np.repeat([-1.0, 1.0], 50)
    reward = (1 + u)[None, :] * d[:, None] - 0.25 * d[:, None] ** 2
    drawn = fit_curve(d**2, reward, "best_of_n", resamples=4000)
    assert drawn.num_prompts == 100
    assert drawn.alpha.mean == pytest.approx(1.0)
    assert drawn.alpha.standard_error == pytest.approx(0.1, rel=0.05)
    assert (drawn.alpha.low, drawn.alpha.high) == pytest.approx((1 - 0.196, 1 + 0.196), abs=0.02)
    assert drawn.beta.standard_error == pytest.approx(0.0, abs=1e-9)
    peak = drawn.peak_distance()
    assert peak is not None and peak.standard_error == pytest.approx(2 * 0.1, rel=0.05)
    alone = fit_curve(d**2, reward.mean(axis=1), "best_of_n")
    assert alone.alpha.standard_error == pytest.approx(0.0, abs=1e-9)


def test_the_delta_method_by_hand() -> None:
    """d = e^(α/β − 1): the error of log d is |1/β| s_α where only α is uncertain, and log R's is the same."""
    d = np.array([1.0, 2.0, 4.0, 6.0])
    found = fit_curve(d**2, curve("rl", 1.0, 0.5, d), "rl")
    unsure = Fit(**{**vars(found), "covariance": np.diag([0.04**2, 0.0])})
    distance, reward = unsure.peak_distance(), unsure.peak_reward()
    assert distance is not None and reward is not None
    assert distance.standard_error == pytest.approx(E * 0.08)
    assert reward.standard_error == pytest.approx(E / 2 * 0.08)
    assert distance.high == pytest.approx(E * math.exp(unsure.critical * 0.08))


def test_a_curve_that_may_not_turn_has_no_peak() -> None:
    """Gold that only rises: β's interval holds 0, or lies below it, and nothing is claimed."""
    d = np.array([1.0, 2.0, 3.0, 4.0])
    noise = np.array([0.1, -0.1, -0.1, 0.1])
    straight = fit_curve(d**2, d + noise, "best_of_n")
    assert straight.beta.low < 0 < straight.beta.high
    assert not straight.turns and straight.peak_distance() is None and straight.peak_reward() is None


def test_where_gold_turns_while_the_proxy_rises() -> None:
    """Gold turns at d = 2; the proxy, α = 1 and β = .05, still rises there by 1 − 2 · .05 · 2 = .8 a √nat."""
    d = np.linspace(0.5, 4, 8)
    gold = fit_curve(d**2, curve("best_of_n", 1.0, 0.25, d), "best_of_n")
    proxy = fit_curve(d**2, curve("best_of_n", 1.0, 0.05, d), "best_of_n")
    found = turn(gold, proxy)
    assert found is not None and found.inside
    assert (found.distance.mean, found.gold.mean) == pytest.approx((2.0, 1.0))
    assert found.proxy_slope.mean == pytest.approx(0.8)
    near = d[:3]
    early = fit_curve(near**2, curve("best_of_n", 1.0, 0.25, near), "best_of_n")
    beyond = turn(early, proxy)
    assert beyond is not None and not beyond.inside
    assert turn(gold, gold) is None  # Both turn together: nothing is being gamed.
    assert turn(proxy, gold) is None
    with pytest.raises(TrueupError, match="E605"):
        turn(gold, fit_curve(d**2, curve("rl", 1.0, 0.5, d), "rl"))


GOLD = [0.50, 0.60, 0.64, 0.62, 0.60, 0.58, 0.50]
"Peak .64 at 2; 5 % of it are .032, so below .608 from index 4 on."
PROXY = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]


@pytest.mark.parametrize(
    ("patience", "tolerance", "at", "lost"),
    [
        (1, 0.05, 4, 0.04 / 0.64),
        (2, 0.05, 5, 0.06 / 0.64),
        (3, 0.05, 6, 0.14 / 0.64),
        (1, 0.0, 3, 0.02 / 0.64),
    ],
)
def test_the_first_fall_by_hand(patience: int, tolerance: float, at: int, lost: float) -> None:
    found = first_fall(GOLD, PROXY, tolerance=tolerance, patience=patience)
    assert found is not None
    assert (found.peak, found.at) == (2, at)
    assert found.lost == pytest.approx(lost)


@pytest.mark.parametrize(
    ("gold", "proxy"),
    [
        (
            GOLD,
            [0.0, 1.0, 2.0, 1.9, 1.8, 1.7, 1.6],
        ),  # Both fall: training went wrong, the proxy is not gamed.
        ([0.5, 0.6, 0.7], [0.0, 1.0, 2.0]),
        ([0.64, 0.5, 0.64, 0.5, 0.64, 0.5], [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]),  # Never twice in a row.
        ([], []),
    ],
)
def test_no_fall(gold: list[float], proxy: list[float]) -> None:
    assert first_fall(gold, proxy) is None


def test_a_fall_from_a_peak_below_zero() -> None:
    """Rewards have no natural zero: from −1 the tolerance of 10 % reaches down to −1.1."""
    found = first_fall([-2.0, -1.0, -1.05, -1.2, -1.3], [0, 1, 2, 3, 4], tolerance=0.1)
    assert found is not None and (found.peak, found.at) == (1, 4)
    assert found.lost == pytest.approx(0.3)
    assert lost_share(-0.5, 0.0) == math.inf and lost_share(0.0, 0.0) == 0.0


def test_series_of_two_lengths_are_refused() -> None:
    with pytest.raises(TrueupError, match="E829"):
        first_fall([1.0], [1.0, 2.0])
