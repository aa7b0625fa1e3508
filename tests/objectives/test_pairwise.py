"""DPO by hand."""

from __future__ import annotations

import math

import pytest
import torch

from hand_batches import FIRST_WINS, batch, group, loss, tensor
from trueup.batch import Outputs
from trueup.groups import Comparison
from trueup.objectives.pairwise import DPO
from trueup.testing import check_objective

REFERENCE = {"ref_logprobs": [-1.0, -2.0]}, {"ref_logprobs": [-0.5]}
PAIR = group(*REFERENCE, comparisons=FIRST_WINS)
FLIPPED = group(*REFERENCE, comparisons=(Comparison(a=0, b=1, choice="b"),))


@pytest.mark.parametrize("beta", [0.0, 0.1, 3.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_at_the_reference_the_loss_is_log_2(beta: float, smoothing: float) -> None:
    at = loss(DPO(beta=beta, label_smoothing=smoothing), batch(PAIR), logprobs=tensor(-1, -2, -0.5))
    assert at.item() == pytest.approx(math.log(2), abs=1e-12)


def test_beta_0_is_log_2_anywhere() -> None:
    assert loss(DPO(beta=0.0), batch(PAIR), logprobs=tensor(-7, -2, -0.1)).item() == pytest.approx(
        math.log(2)
    )


def test_a_number_by_hand() -> None:
    """h_w = (−.5 + 1) + (−1 + 2) = 1.5, h_l = −1.5 + .5 = −1, β = .4: z = .4 · 2.5 = 1, log(1 + 1/e) = .31"""
    objective = DPO(beta=0.4)
    packed = batch(PAIR)
    terms = objective(Outputs(logprobs=tensor(-0.5, -1, -1.5)), packed)
    assert terms.losses["dpo"][1].values.tolist() == pytest.approx([0.3132616875], abs=1e-9)
    numbers = {name: entries.values.item() for name, entries in terms.metrics.items()}
    assert numbers["rewards/chosen"] == pytest.approx(0.6)
    assert numbers["rewards/rejected"] == pytest.approx(-0.4)
    assert numbers["rewards/margins"] == pytest.approx(1.0)
    assert numbers["rewards/accuracies"] == 1.0


def test_sums_not_means() -> None:
    """Every chosen token raised by .1: z grows with the number of tokens, 2 · .1 · β."""
    terms = DPO(beta=1.0)(Outputs(logprobs=tensor(-0.9, -1.9, -0.5)), batch(PAIR))
    assert terms.metrics["rewards/margins"].values.item() == pytest.approx(0.2)


def test_the_gradient_is_minus_beta_sigma_of_minus_z_on_every_chosen_token() -> None:
    """∂L/∂log π = −β σ(−z) on each token of the chosen one and +β σ(−z) on each of the rejected."""
    logprobs = tensor(-0.5, -1, -1.5, grad=True)
    loss(DPO(beta=0.4), batch(PAIR), logprobs=logprobs).backward()
    weight = 0.4 / (1 + math.e)  # z = 1
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == pytest.approx([-weight, -weight, weight], abs=1e-12)


@pytest.mark.parametrize("change", [-3.0, 0.3, 20.0])
def test_swapping_the_label_changes_the_loss_by_z(change: float) -> None:
    """L(−z) − L(z) = z."""
    logprobs = tensor(-1, -2 + change, -0.5)
    swapped, plain = (loss(DPO(beta=0.7), batch(g), logprobs=logprobs) for g in (FLIPPED, PAIR))
    assert (swapped - plain).item() == pytest.approx(0.7 * change, abs=1e-12)


def test_label_smoothing_mixes_both_labels() -> None:
    """(1 − ε) L(z) + ε L(−z): least at σ(z) = 1 − ε, where it is the entropy of ε."""
    logprobs = tensor(-1, -2 + 1.3, -0.5)
    plain, swapped = (loss(DPO(beta=1.0), batch(g), logprobs=logprobs) for g in (PAIR, FLIPPED))
    smooth = loss(DPO(beta=1.0, label_smoothing=0.1), batch(PAIR), logprobs=logprobs)
    assert smooth.item() == pytest.approx((0.9 * plain + 0.1 * swapped).item(), abs=1e-12)
    best = tensor(-1, -2 + math.log(9), -0.5, grad=True)
    at_best = loss(DPO(beta=1.0, label_smoothing=0.1), batch(PAIR), logprobs=best)
    at_best.backward()
    assert best.grad is not None
    assert best.grad.abs().max().item() < 1e-15
    assert at_best.item() == pytest.approx(-0.9 * math.log(0.9) - 0.1 * math.log(0.1), abs=1e-12)


def test_a_soft_label_is_a_mixture_too() -> None:
    soft = group(*REFERENCE, comparisons=(Comparison(a=0, b=1, choice="a", probability=0.75),))
    logprobs = tensor(-1, -2 + 1.3, -0.5)
    plain, swapped, both = (loss(DPO(beta=1.0), batch(g), logprobs=logprobs) for g in (PAIR, FLIPPED, soft))
    assert both.item() == pytest.approx((0.75 * plain + 0.25 * swapped).item(), abs=1e-12)


@pytest.mark.parametrize("z", [-1e4, 1e4])
def test_extremes_stay_finite(z: float) -> None:
    logprobs = torch.tensor([-1.0, -2.0 + z, -0.5], requires_grad=True)
    packed = batch(PAIR).to("cpu", torch.float32)
    value = loss(DPO(beta=1.0), packed, logprobs=logprobs)
    value.backward()
    assert value.item() == pytest.approx(max(0.0, -z))
    assert logprobs.grad is not None
    assert logprobs.grad.isfinite().all()


def test_sound() -> None:
    check_objective(DPO(beta=0.3), at_reference=math.log(2))
    check_objective(DPO(beta=0.3, label_smoothing=0.2), at_reference=math.log(2))
