"""KTO by hand."""

from __future__ import annotations

import math

import pytest

from hand_batches import batch, group, loss, tensor
from trueup.engine.batch import Outputs
from trueup.engine.groups import Group
from trueup.objectives.unpaired import KTO
from trueup.testing import check_objective


def data(z0: float, *labels: float) -> Group:
    """Completions of 2 and 1 tokens with reference log-probs (−1, −2) and (−.5)."""
    return group(
        {"ref_logprobs": [-1.0, -2.0]},
        {"ref_logprobs": [-0.5]},
        marks=[{"desirable": label, "kl_baseline": z0} for label in labels],
    )


def test_at_the_reference_the_loss_is_half_the_weight_and_its_slope_a_quarter() -> None:
    """θ = ρ, z0 = 0: λ/2 = .6 and .5; ∂L/∂h = ∓λβ/4, here divided by the two completions."""
    objective = KTO(beta=0.4, desirable_weight=1.2, undesirable_weight=1.0)
    logprobs = tensor(-1, -2, -0.5, grad=True)
    terms = objective(Outputs(logprobs=logprobs), batch(data(0.0, 1, -1)))
    assert terms.losses["kto"][1].values.tolist() == pytest.approx([0.6, 0.5], abs=1e-12)
    loss(objective, batch(data(0.0, 1, -1)), logprobs=logprobs).backward()
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == pytest.approx([-0.06, -0.06, 0.05], abs=1e-12)


def test_by_hand() -> None:
    """h = 1.5 and −1, z0 = .5, β = 2: good 1 − σ(2) = .11920, bad 1 − σ(3) = .04743 of weight 3: .14228."""
    objective = KTO(beta=2.0, undesirable_weight=3.0)
    terms = objective(Outputs(logprobs=tensor(-0.5, -1, -1.5)), batch(data(0.5, 1, -1)))
    assert terms.losses["kto"][1].values.tolist() == pytest.approx([0.1192029, 0.1422776], abs=1e-6)
    assert terms.metrics["kto/margin"].values.tolist() == pytest.approx([2.0, 3.0])
    assert terms.metrics["kto/accuracy"].values.tolist() == [1, 1]
    assert terms.metrics["kto/desirable"].values.tolist() == [1, 0]


def test_a_good_and_a_bad_label_of_one_completion_sum_to_1() -> None:
    """1 − σ(g) + 1 − σ(−g) = 1: nothing is learnt from a completion called both."""
    logprobs = tensor(-0.5, -1, -1.5)
    good, bad = (
        KTO()(Outputs(logprobs=logprobs), batch(data(0.3, label, label))).losses["kto"][1].values
        for label in (1.0, -1.0)
    )
    assert (good + bad).tolist() == pytest.approx([1, 1], abs=1e-12)


def test_extremes_stay_finite_and_do_not_push() -> None:
    logprobs = tensor(-1e5, -2, -0.5, grad=True)
    value = loss(KTO(beta=1.0), batch(data(0.0, 1, -1)), logprobs=logprobs)
    value.backward()
    assert logprobs.grad is not None
    assert value.item() == pytest.approx((1 + 0.5) / 2)
    assert logprobs.grad[0].item() == 0
    assert math.isfinite(value.item())


def test_sound() -> None:
    check_objective(KTO())
    check_objective(KTO(beta=0.5, desirable_weight=1.5, undesirable_weight=0.5))
