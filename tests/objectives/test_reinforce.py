"""Losses of whole completions, of groups and by squares, by hand."""

from __future__ import annotations

import math
from typing import Literal

import pytest
import torch

from hand_batches import batch, group, loss, tensor
from trueup.engine.batch import Batch, Outputs
from trueup.objectives.group_relative import GroupRelative, k3
from trueup.objectives.mix import Sum
from trueup.objectives.reinforce import ClippedSequence, Reinforce
from trueup.objectives.squared import APA
from trueup.objectives.value import ClippedValue
from trueup.testing import check_objective


def zeros(count: int) -> torch.Tensor:
    return torch.zeros(count, dtype=torch.float64)


def minus_mean_advantage(packed: Batch) -> float:
    return -float(packed.marks["advantage"].mean())


def test_the_score_function_loss_by_hand() -> None:
    """A = (2, −1), sums −3 and −.5: (−2 · −3, 1 · −.5) = (6, −.5), mean 2.75; slope −A / 2, not / T."""
    packed = batch(group(2, 1, marks=[{"advantage": 2.0}, {"advantage": -1.0}]))
    logprobs = tensor(-1, -2, -0.5, grad=True)
    value = loss(Reinforce(), packed, logprobs=logprobs, entropy=zeros(3))
    value.backward()
    assert value.item() == 2.75
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == [-1, -1, 0.5]


def test_an_advantage_of_zero_gives_no_gradient() -> None:
    packed = batch(group(2, marks=[{"advantage": 0.0}]))
    logprobs = tensor(-1, -2, grad=True)
    loss(Reinforce(), packed, logprobs=logprobs, entropy=zeros(2)).backward()
    assert logprobs.grad is not None
    assert not logprobs.grad.any()


@pytest.mark.parametrize(
    ("ratio", "advantage", "clipped"),
    [(1.5, 1.0, True), (1.5, -1.0, False), (0.5, 1.0, False), (0.5, -1.0, True), (1.1, 2.0, False)],
)
def test_the_sequence_clip_by_hand(ratio: float, advantage: float, clipped: bool) -> None:
    """Two tokens share the log ratio: free −A · ratio, gradient −A · ratio on each; held −A · (1 ± .2)."""
    old = [-1.0, -2.0]
    packed = batch(group({"old_logprobs": old}, marks=[{"advantage": advantage}]))
    logprobs = (tensor(*old) + math.log(ratio) / 2).requires_grad_()
    terms = ClippedSequence(clip=0.2)(Outputs(logprobs=logprobs, entropy=zeros(2)), packed)
    (value,) = terms.losses["policy"][1].values
    value.backward()
    edge = 1.2 if ratio > 1 else 0.8
    assert value.item() == pytest.approx(-advantage * (edge if clipped else ratio), abs=1e-12)
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == pytest.approx([0.0 if clipped else -advantage * ratio] * 2, abs=1e-12)
    assert terms.metrics["policy/clipfrac"].values.item() == clipped
    assert terms.metrics["policy/ratio"].values.item() == pytest.approx(ratio)


def relative(**settings: object) -> tuple[float, list[float]]:
    """Loss and gradient at the old policy: 2 and 1 tokens, A = (1, −1), u = (log 2, 0) and (0)."""
    old = tensor(-1, -2, -0.5)
    ref = old + tensor(math.log(2), 0, 0)
    columns = [
        {"old_logprobs": old[:2].tolist(), "ref_logprobs": ref[:2].tolist()},
        {"old_logprobs": old[2:].tolist(), "ref_logprobs": ref[2:].tolist()},
    ]
    packed = batch(group(*columns, marks=[{"advantage": 1.0}, {"advantage": -1.0}]))
    logprobs = old.clone().requires_grad_()
    objective = GroupRelative(**settings)  # pyright: ignore[reportArgumentType]
    value = loss(objective, packed, logprobs=logprobs, entropy=zeros(3))
    value.backward()
    assert logprobs.grad is not None
    return value.item(), logprobs.grad.tolist()


@pytest.mark.parametrize(
    ("average", "expected", "gradient"),
    [
        ("completion", 0.0, [-1 / 4, -1 / 4, 1 / 2]),  # ½ [(−1 − 1) / 2 + 1]; −A / (N T)
        ("token", -1 / 3, [-1 / 3, -1 / 3, 1 / 3]),  # (−1 − 1 + 1) / 3
        ("constant", -1 / 8, [-1 / 8, -1 / 8, 1 / 8]),  # ½ [−2 / 4 + 1 / 4]
    ],
)
def test_the_three_averages_by_hand(average: str, expected: float, gradient: list[float]) -> None:
    value, found = relative(beta=0.0, average=average, longest=4)
    assert value == pytest.approx(expected, abs=1e-12)
    assert found == pytest.approx(gradient, abs=1e-12)


@pytest.mark.parametrize(
    ("penalty", "slope"),
    [("k3", -1.0), ("ratio_k3", -math.log(2))],  # 1 − e^u = −1; (1 − e^u) + (e^u − 1 − u) = −u
)
def test_the_divergence_by_hand(penalty: Literal["k3", "ratio_k3"], slope: float) -> None:
    """k3(log 2) = 2 − 1 − log 2 = .306853; β = .5, one of 2 tokens of one of 2 completions: weight 1/8."""
    assert k3(tensor(0), tensor(math.log(2))).item() == pytest.approx(0.3068528194, abs=1e-9)
    value, found = relative(beta=0.5, penalty=penalty)
    assert value == pytest.approx(0.3068528194 / 8, abs=1e-9)
    assert found == pytest.approx([-1 / 4 + slope / 8, -1 / 4, 1 / 2], abs=1e-12)


def test_the_clip_may_be_wider_above() -> None:
    """Ratio 1.25, A = 1: held at 1.2 with clip .2, free with clip_high .28; loss −1.2 and −1.25."""
    packed = batch(group({"old_logprobs": [-1.0], "ref_logprobs": [-1.0]}, marks=[{"advantage": 1.0}]))
    outputs = {"logprobs": tensor(-1 + math.log(1.25)), "entropy": zeros(1)}
    assert loss(GroupRelative(beta=0.0), packed, **outputs).item() == pytest.approx(-1.2)
    assert loss(GroupRelative(beta=0.0, clip_high=0.28), packed, **outputs).item() == pytest.approx(-1.25)


def test_the_distance_from_the_reference_is_logged_a_completion() -> None:
    """Σ log π_old − log ρ = −log 2 for the first, 0 for the second."""
    columns = [{"old_logprobs": [-1.0], "ref_logprobs": [-1 + math.log(2)]}] * 2
    packed = batch(group(*columns, marks=[{"advantage": 0.0}] * 2))
    terms = GroupRelative()(Outputs(logprobs=tensor(-1, -1), entropy=zeros(2)), packed)
    assert terms.metrics["kl"].values.tolist() == pytest.approx([-math.log(2)] * 2)
    assert terms.metrics["kl"].unit == "completion"


def test_the_squared_gap_by_hand() -> None:
    """A = .5, β = .5: target −1.5 + 1 = −.5; log π = −1: (−.5)² = .25, slope 2 · (−.5) = −1: up, as A > 0."""
    packed = batch(group({"advantages": [0.5], "ref_logprobs": [-1.5]}))
    logprobs = tensor(-1, grad=True)
    value = loss(APA(beta=0.5), packed, logprobs=logprobs, entropy=zeros(1))
    value.backward()
    assert value.item() == 0.25
    assert logprobs.grad is not None
    assert logprobs.grad.item() == -1


def test_a_strong_pull_copies_the_reference() -> None:
    """β → ∞: (log π − log ρ)² = .25 and its slope, 2 (−1 + 1.5) = 1: down to ρ, whatever A."""
    packed = batch(group({"advantages": [7.0], "ref_logprobs": [-1.5]}))
    logprobs = tensor(-1, grad=True)
    value = loss(APA(beta=1e12), packed, logprobs=logprobs, entropy=zeros(1))
    value.backward()
    assert value.item() == pytest.approx(0.25)
    assert logprobs.grad is not None
    assert logprobs.grad.item() == pytest.approx(1.0)


def test_sound() -> None:
    check_objective(Reinforce())
    check_objective(ClippedSequence(), at_reference=minus_mean_advantage)
    check_objective(GroupRelative(), at_reference=minus_mean_advantage)
    check_objective(GroupRelative(penalty="ratio_k3", beta=0.5, clip_high=0.28, average="token"))
    check_objective(GroupRelative(beta=0.0, average="constant", longest=8))
    squares = APA(beta=0.5)
    check_objective(squares, at_reference=lambda b: float((2 * b.columns["advantages"]).square().mean()))
    check_objective(Sum(((1.0, squares), (1.0, ClippedValue(clip=math.inf, coefficient=1.0)))))
