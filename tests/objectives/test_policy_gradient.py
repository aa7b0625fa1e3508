"""The clipped surrogate, the clipped value loss and sums of objectives by hand."""

from __future__ import annotations

import math

import pytest
import torch

from hand_batches import batch, group, loss, tensor
from trueup.engine.batch import Batch, Outputs
from trueup.objectives.likelihood import NLL
from trueup.objectives.mix import Sum
from trueup.objectives.pairwise import DPO
from trueup.objectives.policy_gradient import Clipped
from trueup.objectives.value import ClippedValue
from trueup.testing import check_objective

OLD = [-1.0, -2.0, -0.5]
ADVANTAGES = [2.0, -1.0, 0.5]


def at(*log_ratio: float, advantages: list[float]) -> tuple[torch.Tensor, Outputs, Batch]:
    old = [-1.0] * len(log_ratio)
    packed = batch(group({"old_logprobs": old, "advantages": advantages}))
    logprobs = (tensor(*old) + tensor(*log_ratio)).requires_grad_()
    return logprobs, Outputs(logprobs=logprobs, entropy=torch.zeros_like(logprobs).detach()), packed


def test_at_the_old_policy_the_loss_is_minus_the_mean_advantage() -> None:
    """−(2 − 1 + .5) / 3 = −.5, nothing clipped, and ∂L/∂log π_t = −A_t / T: the policy gradient."""
    packed = batch(group({"old_logprobs": OLD, "advantages": ADVANTAGES}))
    logprobs = tensor(*OLD, grad=True)
    zeros = tensor(0, 0, 0)
    value = loss(Clipped(), packed, logprobs=logprobs, entropy=zeros)
    value.backward()
    assert value.item() == -0.5
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == pytest.approx([-2 / 3, 1 / 3, -0.5 / 3], abs=1e-15)
    metrics = Clipped()(Outputs(logprobs=logprobs, entropy=zeros), packed).metrics
    assert metrics["policy/clipfrac"].values.sum() == 0
    assert metrics["policy/approxkl"].values.sum() == 0
    assert metrics["policy/ratio"].values.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("ratio", "advantage", "clipped"),
    [
        (1.5, 1.0, True),
        (1.5, -1.0, False),
        (0.5, 1.0, False),
        (0.5, -1.0, True),
        (1.1, 1.0, False),
        (1.1, -1.0, False),
        (0.9, 1.0, False),
        (0.9, -1.0, False),
    ],
)
def test_a_tokens_gradient_is_zero_exactly_in_the_two_clipped_cases(
    ratio: float, advantage: float, clipped: bool
) -> None:
    """ε = .2. Free: −A · ratio, gradient −A · ratio. Clipped: −A · (1 ± ε), gradient 0."""
    logprobs, outputs, packed = at(math.log(ratio), advantages=[advantage])
    terms = Clipped(clip=0.2)(outputs, packed)
    (value,) = terms.losses["policy"][1].values
    value.backward()
    assert logprobs.grad is not None
    edge = 1.2 if ratio > 1 else 0.8
    assert value.item() == pytest.approx(-advantage * (edge if clipped else ratio), abs=1e-12)
    assert logprobs.grad.item() == pytest.approx(0.0 if clipped else -advantage * ratio, abs=1e-12)
    assert terms.metrics["policy/clipfrac"].values.item() == clipped


def test_approxkl_is_half_the_squared_log_ratio() -> None:
    _, outputs, packed = at(0.2, -0.4, advantages=[1.0, 1.0])
    values = Clipped()(outputs, packed).metrics["policy/approxkl"].values
    assert values.tolist() == pytest.approx([0.02, 0.08])


@pytest.mark.parametrize(
    ("value", "old", "target", "expected", "gradient"),
    [
        (1.0, 1.0, 3.0, 2.0, -2.0),  # not moved: ½ (1 − 3)²
        (1.5, 1.0, 3.0, 1.62, 0.0),  # towards G beyond ε: ½ (1.2 − 3)², held
        (0.5, 1.0, 3.0, 3.125, -2.5),  # away from G: ½ (.5 − 3)², the larger
        (1.1, 1.0, 3.0, 1.805, -1.9),  # within ε: free
        (4.0, 1.0, 3.0, 1.62, 0.0),  # past G: the held one, ½ (1.2 − 3)², is larger than ½ (4 − 3)²
    ],
)
def test_the_value_loss_by_hand(
    value: float, old: float, target: float, expected: float, gradient: float
) -> None:
    packed = batch(group({"old_values": [old], "returns": [target]}))
    values = tensor(value, grad=True)
    terms = ClippedValue(clip=0.2)(Outputs(values=values), packed)
    (found,) = terms.losses["value"][1].values
    found.backward()
    assert values.grad is not None
    assert found.item() == pytest.approx(expected, abs=1e-12)
    assert values.grad.item() == pytest.approx(gradient, abs=1e-12)
    assert terms.losses["value"][0] == 0.1
    assert terms.metrics["value/clipfrac"].values.item() == (gradient == 0)


def minus_mean_advantage(packed: Batch) -> float:
    return -float(packed.columns["advantages"].mean())


def test_sound() -> None:
    check_objective(Clipped(), at_reference=minus_mean_advantage)
    check_objective(ClippedValue())
    check_objective(Sum(((1.0, Clipped()), (0.5, ClippedValue()))))


def test_a_sum_divides_each_part_by_its_own_count() -> None:
    """2 · DPO over pairs + 3 · NLL over tokens on one batch."""
    both = Sum(((2.0, DPO()), (3.0, NLL())))
    assert both.reads == {"ref_logprobs"}
    assert both.wants == {"policy": ("logprobs",)}
    packed = batch(group({"ref_logprobs": [-1.0]}, {"ref_logprobs": [-2.0, -1.0]}))
    logprobs = tensor(-0.5, -1, -3)
    separate = [loss(o, packed, logprobs=logprobs) for o in (NLL(),)]
    from_terms = both(Outputs(logprobs=logprobs), packed).losses
    assert from_terms["nll"][0] == 3.0
    assert (from_terms["nll"][1].values.sum() / 3).item() == separate[0].item() == 1.5
    assert from_terms["dpo"][0] == 2.0


def test_two_parts_of_one_name_are_refused() -> None:
    packed = batch(group(1))
    with pytest.raises(AssertionError, match="same name"):
        Sum(((1.0, NLL()), (1.0, NLL())))(Outputs(logprobs=tensor(-1)), packed)
