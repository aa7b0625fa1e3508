"""SimPO and ORPO by hand."""

from __future__ import annotations

import math

import pytest
import torch

from hand_batches import FIRST_WINS, batch, group, loss, tensor
from trueup.engine.batch import Outputs
from trueup.engine.groups import Comparison
from trueup.objectives.reference_free import ORPO, SimPO, log1mexp
from trueup.testing import check_objective

PAIR = group(2, 1, comparisons=FIRST_WINS)


@pytest.mark.parametrize("gamma", [0.0, 1.5])
def test_simpo_with_equal_means_is_log_1_plus_e_to_gamma(gamma: float) -> None:
    """Sums −2 and −1, but means −1 and −1."""
    at = loss(SimPO(beta=2.0, gamma=gamma), batch(PAIR), logprobs=tensor(-0.5, -1.5, -1))
    assert at.item() == pytest.approx(math.log(1 + math.exp(gamma)), abs=1e-12)


def test_simpo_by_hand() -> None:
    """Means −1 and −2, β = 2: z = 2; γ = 1: log(1 + e^−1) = .31326."""
    terms = SimPO(beta=2.0, gamma=1.0)(Outputs(logprobs=tensor(-0.5, -1.5, -2)), batch(PAIR))
    assert terms.losses["simpo"][1].values.tolist() == pytest.approx([0.3132616875], abs=1e-9)
    numbers = {name: entries.values.item() for name, entries in terms.metrics.items()}
    assert numbers == pytest.approx(
        {"rewards/chosen": -2, "rewards/rejected": -4, "rewards/margins": 2, "rewards/accuracies": 1}
    )


def test_simpos_gradient_is_shared_among_a_completions_tokens() -> None:
    """∂L/∂log π_t = ∓β σ(γ − z) / T_y: with z = 2, γ = 2 that is −2 · ½ / 2 twice, and +2 · ½."""
    logprobs = tensor(-0.5, -1.5, -2, grad=True)
    loss(SimPO(beta=2.0, gamma=2.0), batch(PAIR), logprobs=logprobs).backward()
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == pytest.approx([-0.5, -0.5, 1.0], abs=1e-12)


def test_repeating_a_completions_tokens_changes_neither() -> None:
    longer = batch(group(4, 1, comparisons=FIRST_WINS))
    for objective in (SimPO(), ORPO()):
        short = loss(objective, batch(PAIR), logprobs=tensor(-0.5, -1.5, -2))
        assert loss(objective, longer, logprobs=tensor(-0.5, -1.5, -0.5, -1.5, -2)).item() == pytest.approx(
            short.item(), abs=1e-12
        )


def test_orpo_with_equal_means_has_an_odds_part_of_log_2() -> None:
    """L = −m + λ log 2 = 1 + .1 · .69315."""
    at = loss(ORPO(odds_weight=0.1), batch(PAIR), logprobs=tensor(-0.5, -1.5, -1))
    assert at.item() == pytest.approx(1 + 0.1 * math.log(2), abs=1e-12)


def test_orpo_by_hand() -> None:
    """Mean probabilities ½ and ⅕: odds 1 and ¼, z = log 4, −log σ(z) = log(1 + ¼) = .22314; −m_w = log 2.

    L = .69315 + .5 · .22314 = .80472
    """
    half, fifth = math.log(0.5), math.log(0.2)
    terms = ORPO(odds_weight=0.5)(Outputs(logprobs=tensor(half, half, fifth)), batch(PAIR))
    assert terms.losses["orpo_nll"][1].values.item() == pytest.approx(math.log(2), abs=1e-12)
    weight, odds = terms.losses["orpo_odds"]
    assert (weight, odds.values.item()) == pytest.approx((0.5, math.log(1.25)), abs=1e-12)
    assert terms.metrics["rewards/margins"].values.item() == pytest.approx(math.log(4), abs=1e-12)


def test_a_soft_label_mixes_both_orders() -> None:
    logprobs = tensor(-0.5, -1.5, -2)
    for objective in (SimPO(), ORPO()):
        plain, other, soft = (
            loss(objective, batch(group(2, 1, comparisons=(c,))), logprobs=logprobs).item()
            for c in (
                Comparison(a=0, b=1, choice="a"),
                Comparison(a=0, b=1, choice="b"),
                Comparison(a=0, b=1, choice="a", probability=0.75),
            )
        )
        assert soft == pytest.approx(0.75 * plain + 0.25 * other, abs=1e-12)


@pytest.mark.parametrize("x", [-1e-12, -1e-3, -0.6, -0.8, -5.0, -50.0])
def test_log1mexp_is_accurate_at_both_ends(x: float) -> None:
    """Near 0, log(1 − e^x) = log(−x) + x / 2; far from it, −e^x."""
    found = log1mexp(tensor(x)).item()
    if x > -1e-2:
        assert found == pytest.approx(math.log(-x) + x / 2, rel=1e-7)
    elif x < -20:
        assert found == pytest.approx(-math.exp(x), rel=1e-12)
    else:
        assert found == pytest.approx(math.log(1 - math.exp(x)), rel=1e-12)


@pytest.mark.parametrize("sure", [0.0, -1e-30, -100.0])
def test_orpo_stays_finite_where_the_model_is_sure(sure: float) -> None:
    logprobs = torch.tensor([sure, sure, -1.0], requires_grad=True)
    value = loss(ORPO(), batch(PAIR).to("cpu", torch.float32), logprobs=logprobs)
    value.backward()
    assert logprobs.grad is not None
    assert bool(value.isfinite()) and bool(logprobs.grad.isfinite().all())


def test_sound() -> None:
    check_objective(SimPO())
    check_objective(ORPO())
    check_objective(ORPO(odds_weight=2.0))
