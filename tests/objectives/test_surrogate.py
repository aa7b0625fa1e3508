"""The surrogates without a clip, by hand and by enumeration."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from hand_batches import batch, group, loss, tensor
from trueup.engine.batch import Batch, Outputs
from trueup.objectives.policy_gradient import Clipped
from trueup.objectives.surrogate import PenalisedSurrogate, Surrogate, old_to_new
from trueup.testing import check_objective

OLD = [-1.0, -2.0, -0.5]
ADVANTAGES = [2.0, -1.0, 0.5]


def packed(penalty: float = 0.0) -> Batch:
    return batch(group({"old_logprobs": OLD, "advantages": ADVANTAGES}, marks=[{"penalty": penalty}]))


def at(*log_ratio: float) -> Tensor:
    return (tensor(*OLD) + tensor(*log_ratio)).requires_grad_()


def test_at_the_old_policy_the_loss_is_minus_the_mean_advantage() -> None:
    """−(2 − 1 + .5) / 3 = −.5 and ∂L/∂log π_t = −A_t / 3; with c = 4, δ = .01 the loss is −.5 − .04."""
    for objective, expected, tolerance in (
        (Surrogate(), -0.5, 1e-15),
        (PenalisedSurrogate(target=0.01, estimator="k3"), -0.54, 1e-15),
    ):
        logprobs = at(0, 0, 0)
        value = loss(objective, packed(4.0), logprobs=logprobs, entropy=tensor(0, 0, 0))
        value.backward()
        assert value.item() == pytest.approx(expected, abs=tolerance)
        assert logprobs.grad is not None
        assert logprobs.grad.tolist() == pytest.approx([-2 / 3, 1 / 3, -0.5 / 3], abs=1e-15)


def test_away_from_it_by_hand() -> None:
    """Ratios 1.5, .5, 1: −(2 · 1.5 − .5 + .5) / 3 = −1. Nothing is held: the gradient is −A_t ratio_t / 3."""
    logprobs = at(math.log(1.5), math.log(0.5), 0)
    value = loss(Surrogate(), packed(), logprobs=logprobs, entropy=tensor(0, 0, 0))
    value.backward()
    assert value.item() == pytest.approx(-1.0, abs=1e-12)
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == pytest.approx([-3 / 3, 0.5 / 3, -0.5 / 3], abs=1e-12)


@pytest.mark.parametrize(
    ("estimator", "moved", "slopes"),
    [
        # −ln 1.5 − ln .5 = .287682; each slope is −1.
        ("k1", -math.log(1.5) - math.log(0.5), [-1.0, -1.0, -1.0]),
        # (.5 − ln 1.5) + (−.5 − ln .5) = .287682; each slope is ratio − 1.
        ("k3", -math.log(1.5) - math.log(0.5), [0.5, -0.5, 0.0]),
    ],
)
def test_the_penalty_by_hand(estimator: str, moved: float, slopes: list[float]) -> None:
    """c = 3, δ = .02: −1 + 3 (.287682 / 3 − .02) = −.772318, gradient −A_t ratio_t / 3 + slope."""
    logprobs = at(math.log(1.5), math.log(0.5), 0)
    objective = PenalisedSurrogate(target=0.02, estimator=estimator)  # pyright: ignore
    value = loss(objective, packed(3.0), logprobs=logprobs, entropy=tensor(0, 0, 0))
    value.backward()
    assert value.item() == pytest.approx(-1 + moved - 0.06, abs=1e-12)
    assert value.item() == pytest.approx(-0.772318, abs=1e-6)
    assert logprobs.grad is not None
    plain = [-1.0, 0.5 / 3, -0.5 / 3]
    assert logprobs.grad.tolist() == pytest.approx(
        [p + s for p, s in zip(plain, slopes, strict=True)], abs=1e-12
    )


def test_without_penalty_it_is_the_surrogate_and_within_the_clip_so_is_ppos() -> None:
    outputs = Outputs(logprobs=at(0.1, -0.15, 0.05), entropy=tensor(0, 0, 0))
    plain = Surrogate()(outputs, packed()).losses["policy"][1].values
    free = PenalisedSurrogate()(outputs, packed(0.0)).losses["policy"][1].values
    clipped = Clipped(clip=0.2)(outputs, packed()).losses["policy"][1].values
    assert torch.equal(plain, free)
    torch.testing.assert_close(plain, clipped, atol=1e-15, rtol=0)


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_under_the_old_policy_both_estimates_are_the_kl_with_its_gradient(estimator: str) -> None:
    """Σ_a π_old(a) k_a = KL(π_old ‖ π_θ) and Σ_a π_old(a) ∇k_a = ∇KL = π_θ − π_old in the logits."""
    draw = torch.Generator().manual_seed(0)
    old = torch.log_softmax(torch.randn(5, generator=draw, dtype=torch.float64), -1)
    logits = torch.randn(5, generator=draw, dtype=torch.float64).requires_grad_()
    new = torch.log_softmax(logits, -1)
    estimate = (old.exp() * old_to_new(new - old, estimator)).sum()  # pyright: ignore
    (slope,) = torch.autograd.grad(estimate, logits)
    assert estimate.item() == pytest.approx(float((old.exp() * (old - new.detach())).sum()), abs=1e-12)
    torch.testing.assert_close(slope, new.detach().exp() - old.exp(), atol=1e-12, rtol=0)


def test_k3_is_never_negative_and_k1_may_be() -> None:
    u = torch.linspace(-3, 3, 61, dtype=torch.float64)
    assert (old_to_new(u, "k3") >= 0).all()
    assert (old_to_new(u, "k1") < 0).any()


def minus_mean_advantage(packed: Batch) -> float:
    return -float(packed.columns["advantages"].mean())


def with_the_target(packed: Batch) -> float:
    """−mean(A) − δ mean(c), means over tokens."""
    return minus_mean_advantage(packed) - 0.3 * float(packed.marks["penalty"][packed.completion].mean())


def test_sound() -> None:
    check_objective(Surrogate(), at_reference=minus_mean_advantage)
    for estimator in ("k1", "k3"):
        objective = PenalisedSurrogate(target=0.3, estimator=estimator)  # pyright: ignore
        check_objective(objective, at_reference=with_the_target)
