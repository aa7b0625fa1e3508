"""GSPO, CISPO, the dual clip and the entropy bonus by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from hand_batches import batch, group, loss, tensor
from trueup.engine.batch import Batch, Outputs
from trueup.engine.method import Objective
from trueup.objectives.group_relative import GroupRelative
from trueup.objectives.importance import CISPO, GSPO
from trueup.objectives.policy_gradient import Clipped
from trueup.objectives.reinforce import Reinforce
from trueup.testing import check_objective

OLD = [-1.0, -2.0, -0.5]


def pair(first: list[float], second: list[float], advantages: tuple[float, float]) -> Batch:
    """Two completions whose old and reference log-probabilities are these."""
    given = [{"old_logprobs": old, "ref_logprobs": old} for old in (first, second)]
    return batch(group(*given, marks=[{"advantage": a} for a in advantages]))


def gradient(objective: Objective, packed: Batch, logprobs: list[float]) -> tuple[float, list[float]]:
    """The loss at these log-probabilities, and its gradient."""
    given = tensor(*logprobs, grad=True)
    value = loss(objective, packed, logprobs=given, entropy=torch.zeros_like(given).detach())
    value.backward()
    assert given.grad is not None
    return value.item(), given.grad.tolist()


# ------------------------------------------------------------------------------------------ GSPO


def test_gspo_at_the_old_policy() -> None:
    """A = 2 over 2 tokens, A = −1 over 1: L = −(2 − 1)/2 = −½, ∂L/∂log π_t = −A_i / (T_i · 2)."""
    packed = pair(OLD[:2], OLD[2:], (2.0, -1.0))
    value, slope = gradient(GSPO(), packed, OLD)
    assert value == pytest.approx(-0.5, abs=1e-15)
    assert slope == pytest.approx([-0.5, -0.5, 0.5], abs=1e-15)
    completion_mean = GroupRelative(beta=0.0, average="completion")
    assert gradient(completion_mean, packed, OLD)[1] == pytest.approx(slope, abs=1e-15)


@pytest.mark.parametrize("moved", [0.0, 0.1, -0.1, 0.5, -0.5])
def test_gspo_is_grpo_for_completions_of_one_token(moved: float) -> None:
    packed = pair([-1.0], [-2.0], (1.5, -0.5))
    at = [-1.0 + moved, -2.0 + 2 * moved]
    found = gradient(GSPO(clip=0.2, clip_high=0.3, beta=0.1), packed, at)
    expected = gradient(GroupRelative(clip=0.2, clip_high=0.3, beta=0.1), packed, at)
    assert found[0] == pytest.approx(expected[0], abs=1e-14)
    assert found[1] == pytest.approx(expected[1], abs=1e-14)


def test_gspos_ratio_is_the_geometric_mean_and_is_clipped_as_one() -> None:
    """Token ratios e^.5 and e^−.3: s = e^.1 = 1.105. Clipped at 1.05 for A = 1: −1.05 and no gradient.

    For A = −1 the second's s = e^.2 = 1.221 is above 1.05, which does not hold it: +1.221, gradient 1.221.
    """
    packed = pair(OLD[:2], OLD[2:], (1.0, -1.0))
    value, slope = gradient(GSPO(clip=0.05, clip_high=0.05), packed, [-0.5, -2.3, -0.3])
    assert value == pytest.approx((-1.05 + math.exp(0.2)) / 2, abs=1e-12)
    assert slope == pytest.approx([0.0, 0.0, math.exp(0.2) / 2], abs=1e-12)


# ------------------------------------------------------------------------------------------ CISPO


def test_cispo_at_the_old_policy_is_reinforce() -> None:
    """The mean over tokens of −A ∇log π: REINFORCE's gradient, with 3 tokens in place of 2 completions."""
    packed = pair(OLD[:2], OLD[2:], (2.0, -1.0))
    value, slope = gradient(CISPO(), packed, OLD)
    assert value == pytest.approx(-(2 + 2 - 1) / 3, abs=1e-15)
    assert slope == pytest.approx([-2 / 3, -2 / 3, 1 / 3], abs=1e-15)
    plain = gradient(Reinforce(), packed, OLD)[1]
    assert slope == pytest.approx([2 / 3 * g for g in plain], abs=1e-15)


@pytest.mark.parametrize(("ratio", "advantage"), [(1.5, 1.0), (6.0, 1.0), (0.5, -1.0), (0.2, -1.0)])
def test_a_clipped_token_keeps_its_gradient_under_cispo_and_loses_it_under_ppo(
    ratio: float, advantage: float
) -> None:
    """Weights between .7 and 1.3: the gradient is −clip(r) A, where PPO's clip leaves none."""
    packed = pair([-8.0], [-8.0], (advantage, 0.0))
    at = [-8.0 + math.log(ratio), -8.0]
    _, slope = gradient(CISPO(clip_low=0.3, clip_high=0.3), packed, at)
    assert slope[0] == pytest.approx(-min(max(ratio, 0.7), 1.3) * advantage / 2, abs=1e-14)
    assert gradient(GroupRelative(beta=0.0, clip=0.3, average="token"), packed, at)[1][0] == 0.0


def test_cispos_gradient_is_the_papers_losss() -> None:
    """−sg[clip(r)] A log π, differentiated as it is written, on ratios from e^−3 to e^3."""
    steps = [-3.0, -1.0, -0.2, 0.0, 0.4, 1.0, 3.0]
    old = [-4.0] * len(steps)
    packed = pair(old, [-1.0], (0.7, -1.0))
    logprobs = (tensor(*old, -1.0) + tensor(*steps, 0.5)).requires_grad_()
    ratio = (logprobs - tensor(*old, -1.0)).exp().detach()
    advantage = tensor(*[0.7] * len(steps), -1.0)
    (-(ratio.clamp(0.5, 3.0) * advantage * logprobs).mean()).backward()
    assert logprobs.grad is not None
    found = gradient(CISPO(clip_low=0.5, clip_high=2.0), packed, logprobs.tolist())[1]
    assert found == pytest.approx(logprobs.grad.tolist(), abs=1e-14)


# ------------------------------------------------------------------------------------------ dual clip


def dual(ratio: Tensor, advantage: float, objective: Clipped) -> tuple[Tensor, Tensor]:
    """Losses [n] and gradients [n] of one token at each of the ratios."""
    n = len(ratio)
    packed = batch(group({"old_logprobs": [-9.0] * n, "advantages": [advantage] * n}))
    logprobs = (ratio.log() - 9).requires_grad_()
    value = loss(objective, packed, logprobs=logprobs, entropy=torch.zeros(n, dtype=torch.float64)) * n
    each = clipped_losses(objective, packed, logprobs)
    (slope,) = torch.autograd.grad(value, logprobs)
    return each, slope


def clipped_losses(objective: Clipped, packed: Batch, logprobs: Tensor) -> Tensor:
    outputs = Outputs(logprobs=logprobs, entropy=torch.zeros_like(logprobs))
    return objective(outputs, packed).losses["policy"][1].values.detach()


def test_the_dual_clip_makes_the_loss_constant_beyond_c() -> None:
    """A = −2, c = 3: the loss is 2 r up to r = 3 and 6 beyond, without gradient there."""
    ratio = tensor(0.9, 1.5, 2.9, 3.1, 10.0, 1e3)
    losses, slope = dual(ratio, -2.0, Clipped(dual_clip=3.0))
    assert losses.tolist() == pytest.approx([1.8, 3.0, 5.8, 6.0, 6.0, 6.0], abs=1e-12)
    assert slope.tolist() == pytest.approx([1.8, 3.0, 5.8, 0.0, 0.0, 0.0], abs=1e-12)


@pytest.mark.parametrize("advantage", [2.0, -2.0])
def test_without_a_dual_clip_or_within_it_nothing_changes(advantage: float) -> None:
    ratio = tensor(0.3, 0.9, 1.1, 1.5, 2.9) if advantage < 0 else tensor(0.3, 0.9, 1.5, 10.0, 1e3)
    for plain, bounded in zip(
        dual(ratio, advantage, Clipped()), dual(ratio, advantage, Clipped(dual_clip=3.0)), strict=True
    ):
        assert torch.equal(plain, bounded)


def test_the_dual_clip_of_a_group_relative_loss() -> None:
    """A = −1, r = 5, c = 3: 3 in place of 5, and no gradient."""
    packed = pair([-9.0], [-9.0], (-1.0, 0.0))
    at = [-9.0 + math.log(5), -9.0]
    free = gradient(GroupRelative(beta=0.0), packed, at)
    bounded = gradient(GroupRelative(beta=0.0, dual_clip=3.0), packed, at)
    assert free == (pytest.approx(2.5), pytest.approx([2.5, 0.0]))
    assert bounded == (pytest.approx(1.5), pytest.approx([0.0, 0.0]))


# ------------------------------------------------------------------------------------------ entropy bonus


@pytest.mark.parametrize(
    ("objective", "with_bonus"),
    [
        (Clipped(), Clipped(entropy=0.3)),
        (GroupRelative(), GroupRelative(entropy=0.3)),
        (GSPO(), GSPO(entropy=0.3)),
        (CISPO(), CISPO(entropy=0.3)),
    ],
    ids=["clipped", "group relative", "gspo", "cispo"],
)
def test_the_bonus_adds_minus_its_weight_times_the_mean_entropy(
    objective: Objective, with_bonus: Objective
) -> None:
    """Three tokens of entropies .6, .9, 1.5: the loss falls by .3 · 1.0, each entropy's slope is −.1."""
    columns = [{n: OLD for n in ("old_logprobs", "ref_logprobs", "advantages")}]
    packed = batch(group(*columns, marks=[{"advantage": 1.0}]))
    entropy = tensor(0.6, 0.9, 1.5, grad=True)
    plain, more = (loss(o, packed, logprobs=tensor(*OLD), entropy=entropy) for o in (objective, with_bonus))
    assert (more - plain).item() == pytest.approx(-0.3, abs=1e-14)
    (slope,) = torch.autograd.grad(more, entropy)
    assert slope.tolist() == pytest.approx([-0.1] * 3, abs=1e-15)


def test_sound() -> None:
    check_objective(GSPO(clip=0.05, clip_high=0.1, beta=0.1))
    check_objective(CISPO(clip_low=0.1, clip_high=0.1, beta=0.1, entropy=0.05))
    check_objective(GroupRelative(dual_clip=1.1, entropy=0.05))
    check_objective(Clipped(dual_clip=1.1, entropy=0.05))
