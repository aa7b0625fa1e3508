"""Searches on quadratic rewards whose best weights are known, and what convexity says of the path."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from trueup.soups import search
from trueup.soups.fronts import Measured, account, connectivity, volumes
from trueup.soups.mix import mixture
from trueup.soups.simplex import Weights, corners, dirichlet, lattice

RNG = np.random.default_rng(0)
OPTIMA = RNG.normal(size=(3, 6))
CURVATURE = np.array([1.0, 2.0, 0.5])


def rewards(theta: np.ndarray) -> np.ndarray:
    """R_i = −η_i ‖θ − θ_i‖², [3]."""
    return -CURVATURE * ((theta - OPTIMA) ** 2).sum(axis=1)


def soup(weights: Weights) -> np.ndarray:
    """θ_w, by the code that mixes models."""
    parts = [{"theta": torch.from_numpy(optimum)} for optimum in OPTIMA]
    return mixture(parts, weights)["theta"].numpy()


def best_weights(preference: np.ndarray) -> np.ndarray:
    """λ_i = μ_i η_i / Σ_j μ_j η_j: where the gradient of Σ μ_i R_i vanishes."""
    return preference * CURVATURE / (preference * CURVATURE).sum()


def test_the_best_point_for_a_preference_is_a_soup() -> None:
    preference = np.array([0.2, 0.3, 0.5])
    known = tuple(best_weights(preference).tolist())
    at_best = float(preference @ rewards(soup(known)))
    steps = RNG.normal(scale=0.01, size=(200, 6))
    assert all(preference @ rewards(soup(known) + step) < at_best for step in steps)
    assert all(preference @ rewards(soup(w)) <= at_best for w in lattice(3, 20))


def test_concave_rewards_are_connected_and_a_dip_is_found() -> None:
    """Concave: every slack is at least 0. By hand for the middle of two: η ‖θ_1 − θ_2‖² (1/2 − 1/4)."""
    noise = RNG.normal(size=(50, 1))  # the same for all policies, so it cancels in every slack
    soups = {w: rewards(soup(w))[None] + noise for w in lattice(3, 6)}
    found = connectivity(soups)
    assert found is not None and found.estimate.mean > 0 and found.verdict == "holds"
    middle = {w: soups[w] for w in [*corners(3), (0.5, 0.5, 0.0)]}
    apart = ((OPTIMA[0] - OPTIMA[1]) ** 2).sum()
    least = connectivity(middle)
    assert least is not None
    by_hand = [CURVATURE[0] * apart / 4, CURVATURE[1] * apart / 4]
    over = rewards(soup((0.5, 0.5, 0.0))) - (rewards(OPTIMA[0]) + rewards(OPTIMA[1])) / 2
    assert over[:2] == pytest.approx(by_hand) and least.estimate.mean == pytest.approx(over.min())
    dipped = {**soups, (0.5, 0.5, 0.0): soups[0.5, 0.5, 0.0] - np.array([0.0, 20.0, 0.0])}
    worst = connectivity(dipped)
    assert worst is not None and worst.verdict == "fails" and worst.reward == 1
    assert worst.weights == (0.5, 0.5, 0.0)


def test_a_linear_reward_of_a_linear_model_has_no_slack() -> None:
    direction = RNG.normal(size=(6, 3))
    soups = {w: RNG.normal(size=1) * 0 + (soup(w) @ direction)[None].repeat(4, 0) for w in lattice(3, 5)}
    found = connectivity(soups)
    assert found is not None and abs(found.estimate.mean) < 1e-12


def test_bayesian_search_comes_closer_than_as_many_random_points() -> None:
    preference = np.array([0.2, 0.3, 0.5])
    known = preference @ rewards(soup(tuple(best_weights(preference).tolist())))

    def value(weights: Weights) -> float:
        return float(preference @ rewards(soup(weights)))

    tried = search.bayesian(value, 3, 12, seed=1)
    assert len(tried) == len(set(tried)) == 12 and tried[:3] == corners(3)
    gap = known - max(map(value, tried))
    random = [known - max(map(value, dirichlet(3, 12, seed))) for seed in range(20)]
    spread = known - min(map(value, corners(3)))
    assert 0 <= gap < 0.01 * spread and gap < np.median(random)


def test_a_search_goes_on_for_as_long_as_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "_CANDIDATES", 4)
    tried = search.bayesian(lambda weights: weights[0], 4, 12, seed=0)
    assert len(set(tried)) == 12


def test_of_one_prompt_no_interval_is_told() -> None:
    _, each, over = volumes({"a": [np.ones((1, 2)), np.zeros((1, 2))], "b": [np.zeros((1, 2))]})
    found = over["a", "b"].to_json()
    assert each["a"].mean == found["mean"] == 1 and found["ci95"] is found["standard_error"] is None


def test_the_process_interpolates_and_its_improvement_is_the_integral() -> None:
    points = np.array(dirichlet(2, 8, 3))
    values = np.sin(4 * points[:, 0])
    process = search.fit(points, values)
    mean, deviation = process.at(points)
    assert mean == pytest.approx(values, abs=0.02) and (deviation < 0.05).all()
    where = np.array([[0.5, 0.5], [0.03, 0.97]])
    mean, deviation = process.at(where)
    found = search.expected_improvement(process, where, 0.5)
    for m, s, ei in zip(mean, deviation, found, strict=True):
        drawn = stats.norm(m, s).ppf((np.arange(100_000) + 0.5) / 100_000)
        assert ei == pytest.approx(np.maximum(drawn - 0.5, 0).mean(), abs=1e-5)


def test_the_account_of_a_front() -> None:
    """Two experts at (1, 0) and (0, 1), their soup at (.8, .8), MORL at (.6, .6): volumes .64 and .36."""

    def policy(kind: str, x: float, y: float, weights: Weights = ()) -> Measured:
        noise = RNG.normal(scale=0.1, size=(40, 2))
        noise -= noise.mean(axis=0)
        return Measured(
            name=f"{kind} {x}",
            kind=kind,  # pyright: ignore[reportArgumentType] - one of the three
            rewards=np.array([x, y]) + noise,
            weights=weights,
        )

    policies = [
        policy("start", 0.0, 0.0),
        policy("soup", 1.0, 0.0, (1.0, 0.0)),
        policy("soup", 0.8, 0.8, (0.5, 0.5)),
        policy("soup", 0.0, 1.0, (0.0, 1.0)),
        policy("morl", 0.6, 0.6),
    ]
    found = account(policies, ["helpful", "short"])
    assert found["reference"] == pytest.approx({"helpful": 0.0, "short": 0.0})
    volume = {name: row["mean"] for name, row in found["hypervolume"].items()}
    assert volume == pytest.approx({"soups": 0.64, "experts": 0.0, "morl": 0.36})
    assert found["soups_over"]["morl"]["mean"] == pytest.approx(0.28)
    low, high = found["soups_over"]["morl"]["ci95"]
    assert low < 0.28 < high
    assert [row["on_front"] for row in found["policies"]] == [False, True, True, True, False]
    assert found["connectivity"]["slack"]["mean"] == pytest.approx(0.3)
    assert found["connectivity"]["verdict"] == "holds"
    _, same, over = volumes({"a": [p.rewards for p in policies], "b": [p.rewards for p in policies]})
    assert over["a", "b"].mean == over["a", "b"].standard_error == 0 and same["a"] == same["b"]
