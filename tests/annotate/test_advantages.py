"""GAE and whitening by hand, and their identities."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hand_batches import column, group, handles
from trueup.annotate.advantages import GAE, ReturnsToGo, Whiten, gae

NUMBERS = st.floats(-5, 5)
STEPS = st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=12)


def test_by_hand() -> None:
    """V = (.5, .2), r = (0, 1), γ = 1, λ = .95: δ = (0 + .2 − .5, 1 − .2) = (−.3, .8);
    A_2 = .8, A_1 = −.3 + .95 · .8 = .46; G = A + V = (.96, 1.0)."""
    run, noted = handles()
    out = GAE()([group({"rewards": [0, 1], "old_values": [0.5, 0.2]})], run)
    assert column(out, "advantages")[0] == pytest.approx([0.46, 0.8], abs=1e-12)
    assert column(out, "returns")[0] == pytest.approx([0.96, 1.0], abs=1e-12)
    # Var(G) = .0004, mean (G − V)² = (.46² + .8²) / 2 = .4258: 1 − .4258 / .0004.
    assert noted["value/explained_variance"] == pytest.approx(1 - 0.4258 / 0.0004)
    assert noted["returns"] == pytest.approx(0.98)


def test_with_a_discount_by_hand() -> None:
    """γ = .5, λ = .5: δ = (0 + .1 − .5, .8) = (−.4, .8); A_1 = −.4 + .25 · .8 = −.2."""
    found = gae(np.array([0.0, 1.0]), np.array([0.5, 0.2]), 0.5, 0.5)
    assert found.tolist() == pytest.approx([-0.2, 0.8], abs=1e-12)


@given(STEPS)
def test_lambda_1_is_what_follows_minus_the_value(steps: list[tuple[float, float]]) -> None:
    """A_t = Σ_{k ≥ t} r_k − V_t, so the return is the reward to go, whatever the critic says."""
    rewards, values = np.array(steps).T
    advantages = gae(rewards, values, 1.0, 1.0)
    np.testing.assert_allclose(advantages + values, np.cumsum(rewards[::-1])[::-1], atol=1e-12)


@given(STEPS, st.floats(0, 1))
def test_lambda_0_is_the_one_step_error(steps: list[tuple[float, float]], gamma: float) -> None:
    rewards, values = np.array(steps).T
    expected = rewards + gamma * np.append(values[1:], 0) - values
    np.testing.assert_allclose(gae(rewards, values, gamma, 0.0), expected, atol=1e-12)


def test_the_value_after_the_end_is_0_for_each_completion_alone() -> None:
    """Two completions in one group: nothing runs from one into the other."""
    both = group({"rewards": [0, 1], "old_values": [0.5, 0.2]}, {"rewards": [5.0], "old_values": [1.0]})
    out = GAE()([both], handles()[0])
    assert column(out, "advantages") == [pytest.approx([0.46, 0.8]), pytest.approx([4.0])]


def test_a_perfect_critic_explains_everything() -> None:
    run, noted = handles()
    GAE(lam=1.0)([group({"rewards": [1, 2, 4], "old_values": [7, 6, 4]})], run)
    assert noted["value/explained_variance"] == 1.0


def test_whitening_by_hand() -> None:
    """(1, 2) and (6): μ = 3, population variance (4 + 1 + 9) / 3 = 14/3, σ = 2.160247."""
    groups = [group({"advantages": [1, 2]}), group({"advantages": [6]})]
    out = Whiten()(groups, handles()[0])
    sigma = np.sqrt(14 / 3 + 1e-8)
    assert column(out, "advantages") == [
        pytest.approx([-2 / sigma, -1 / sigma], abs=1e-12),
        pytest.approx([3 / sigma], abs=1e-12),
    ]
    kept = Whiten(keep_mean=True)(groups, handles()[0])
    assert column(kept, "advantages")[1] == pytest.approx([3 / sigma + 3], abs=1e-12)


@given(st.lists(st.lists(st.integers(-50, 50).map(float), min_size=1, max_size=6), min_size=2, max_size=5))
def test_whitening_identities(values: list[list[float]]) -> None:
    """Mean 0 (or as it was), variance var / (var + 1e-8), order kept, blind to shift and scale."""
    groups = [group({"advantages": v}) for v in values]
    flat = np.concatenate([np.array(v) for v in values])
    white = np.concatenate(column(Whiten()(groups, handles()[0]), "advantages"))
    kept = np.concatenate(column(Whiten(keep_mean=True)(groups, handles()[0]), "advantages"))
    assert white.mean() == pytest.approx(0, abs=1e-9)
    assert white.var() == pytest.approx(flat.var() / (flat.var() + 1e-8), abs=1e-9)
    assert kept.mean() == pytest.approx(flat.mean(), abs=1e-9)
    np.testing.assert_allclose(kept - flat.mean(), white, atol=1e-9)
    moved = [group({"advantages": [3 * x + 7 for x in v]}) for v in values]
    again = np.concatenate(column(Whiten()(moved, handles()[0]), "advantages"))
    np.testing.assert_allclose(again, white, atol=1e-6)


def test_returns_to_go_by_hand() -> None:
    """r = (1, −2, 4): (3, 2, 4); γ = ½: (1 − 1 + 1, −2 + 2, 4) = (1, 0, 4); the means 3 and 5/3."""
    for gamma, expected in ((1.0, [3, 2, 4]), (0.5, [1, 0, 4])):
        run, noted = handles()
        out = ReturnsToGo(gamma=gamma)([group({"rewards": [1, -2, 4]})], run)
        assert column(out, "advantages")[0] == pytest.approx(expected, abs=1e-12)
        assert noted["returns"] == pytest.approx(sum(expected) / 3)
