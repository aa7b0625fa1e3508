"""DPO by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from hand_batches import FIRST_WINS, batch, group, loss, tensor
from trueup.engine.batch import Outputs
from trueup.engine.groups import Comparison, Group
from trueup.objectives.pairwise import DPO, IPO, slope
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


def dpo_loss(z: float, data: Group = PAIR, **fields: Any) -> float:
    """DPO's loss where the margin is z."""
    return loss(DPO(beta=1.0, **fields), batch(data), logprobs=tensor(-1, -2 + z, -0.5)).item()


@pytest.mark.parametrize(("z", "expected"), [(0.0, 1.0), (0.25, 0.75), (1.0, 0.0), (3.0, 0.0), (-2.0, 3.0)])
def test_the_hinge_by_hand(z: float, expected: float) -> None:
    """max(0, 1 − z): 1 at the reference, nothing once the margin is 1."""
    assert dpo_loss(z, loss="hinge") == pytest.approx(expected, abs=1e-12)


def test_robust_by_hand() -> None:
    """z = 1, ε = .2: ℓ(1) = .31326, ℓ(−1) = 1.31326; (.8 · .31326 − .2 · 1.31326) / .6 = −.02007"""
    assert dpo_loss(1.0, loss="robust", label_smoothing=0.2) == pytest.approx(-0.0200716, abs=1e-6)


@pytest.mark.parametrize("z", [-1.3, 0.0, 0.7])
def test_the_robust_losss_mean_over_flipped_labels_is_the_loss_before(z: float) -> None:
    """Flipped with probability ε: (1 − ε) R(z) + ε R(−z) = ℓ(z)."""
    robust = {"loss": "robust", "label_smoothing": 0.3}
    mean = 0.7 * dpo_loss(z, PAIR, **robust) + 0.3 * dpo_loss(z, FLIPPED, **robust)
    assert mean == pytest.approx(dpo_loss(z), abs=1e-12)


def test_without_a_reference_the_sums_themselves_are_compared() -> None:
    """log π_w = −1.5, log π_l = −2.25, β = 4: z = 3, log(1 + e^−3) = .04859; the column is not read."""
    objective = DPO(beta=4.0, reference_free=True)
    assert not objective.reads
    bare = batch(group(2, 1, comparisons=FIRST_WINS))
    assert loss(objective, bare, logprobs=tensor(-0.5, -1, -2.25)).item() == pytest.approx(
        0.0485874, abs=1e-6
    )


# ------------------------------------------------------------------------------------------ RPO


def test_rpo_adds_the_chosen_tokens_mean_nll() -> None:
    """z = 1: .31326; the chosen's tokens .5 and 1 nats, mean .75; a = 2: .31326 + 1.5. The slope too."""
    both, plain = (tensor(-0.5, -1, -1.5, grad=True) for _ in range(2))
    value = loss(DPO(beta=0.4, nll_weight=2.0), batch(PAIR), logprobs=both)
    assert value.item() == pytest.approx(0.3132616875 + 1.5, abs=1e-9)
    value.backward()
    loss(DPO(beta=0.4), batch(PAIR), logprobs=plain).backward()
    assert both.grad is not None and plain.grad is not None
    assert (both.grad - plain.grad).tolist() == pytest.approx([-1.0, -1.0, 0.0], abs=1e-15)


def test_rpo_without_a_weight_is_dpo() -> None:
    given = Outputs(logprobs=tensor(-0.5, -1, -1.5))
    plain, zero = (o(given, batch(PAIR)) for o in (DPO(), DPO(nll_weight=0.0)))
    assert list(zero.losses) == ["dpo"]
    assert torch.equal(zero.losses["dpo"][1].values, plain.losses["dpo"][1].values)


def test_rpo_of_a_soft_label_weighs_both_by_it() -> None:
    """p = .75: .75 · .75 + .25 · 1.5 = .9375 nats a token."""
    soft = group(*REFERENCE, comparisons=(Comparison(a=0, b=1, choice="a", probability=0.75),))
    terms = DPO(nll_weight=1.0)(Outputs(logprobs=tensor(-0.5, -1, -1.5)), batch(soft))
    assert terms.losses["nll"][1].values.item() == pytest.approx(0.9375, abs=1e-12)


# ------------------------------------------------------------------------------------------ f-DPO


@pytest.mark.parametrize(
    ("divergence", "expected"),
    [
        ("reverse_kl", math.log(3)),  # log u_w − log u_l with u = 3 and 1
        ("forward_kl", -1 / 3 + 1),
        ("jensen_shannon", math.log(2 * 3 / 4) - math.log(2 * 1 / 2)),
        ("alpha", (1 - 3**-0.5) / 0.5),
    ],
)
def test_a_divergences_margin_by_hand(divergence: Any, expected: float) -> None:
    """h_w = log 3, h_l = 0, β = 2: z is 2 (f'(3) − f'(1)), and the loss log(1 + e^−z)."""
    objective = DPO(beta=2.0, divergence=divergence, alpha=0.5)
    terms = objective(Outputs(logprobs=tensor(-1, -2 + math.log(3), -0.5)), batch(PAIR))
    assert terms.metrics["rewards/margins"].values.item() == pytest.approx(2 * expected, abs=1e-12)
    value = terms.losses["dpo"][1].values.item()
    assert value == pytest.approx(math.log1p(math.exp(-2 * expected)), abs=1e-12)


def test_reverse_kl_is_dpo_to_the_bit() -> None:
    """And alpha goes from it, at 0, to forward_kl, at 1."""
    h = torch.linspace(-5, 5, 21, dtype=torch.float64)
    assert torch.equal(slope(h, "reverse_kl", 0.5), h)
    torch.testing.assert_close(slope(h, "alpha", 1e-9), h, atol=1e-6, rtol=0)
    torch.testing.assert_close(slope(h, "alpha", 1.0), slope(h, "forward_kl", 0.5) + 1, atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("divergence", "expected"),
    [
        ("reverse_kl", lambda h: 1.0),
        ("forward_kl", lambda h: math.exp(-h)),
        ("jensen_shannon", lambda h: 1 / (1 + math.exp(h))),
        ("alpha", lambda h: math.exp(-h / 2)),
    ],
)
def test_the_slopes_slope_in_float32(divergence: Any, expected: Any) -> None:
    """u f''(u): 1, 1/u, 1 / (1 + u), u^−α; beyond e^20 it stays e^20."""
    points = [-15.0, -3.0, -0.1, 0.0, 0.2, 4.0]
    h = torch.tensor(points, requires_grad=True)
    (found,) = torch.autograd.grad(slope(h, divergence, 0.5).sum(), h)
    assert found.tolist() == pytest.approx([expected(x) for x in points], rel=1e-5)
    far = torch.tensor([-500.0], requires_grad=True)
    (found,) = torch.autograd.grad(slope(far, divergence, 0.5).sum(), far)
    bounded = {"reverse_kl": 1.0, "jensen_shannon": 1.0}.get(divergence, math.exp(20))
    assert found.item() == pytest.approx(bounded, rel=1e-5)


@pytest.mark.parametrize("divergence", ["reverse_kl", "forward_kl", "jensen_shannon", "alpha"])
@pytest.mark.parametrize("change", [-3000.0, -150.0, 150.0, 3000.0])
def test_no_sequences_ratio_overflows(divergence: Any, change: float) -> None:
    """float32, log-ratios of ±3000: finite, and a chosen completion that became unlikely is pulled back."""
    logprobs = torch.tensor([-1.0, -2.0 + change, -0.5], requires_grad=True)
    packed = batch(PAIR).to("cpu", torch.float32)
    value = loss(DPO(beta=0.1, divergence=divergence), packed, logprobs=logprobs)
    value.backward()
    assert value.isfinite()
    assert logprobs.grad is not None and logprobs.grad.isfinite().all()
    assert change > 0 or logprobs.grad[0] < -0.05


# ------------------------------------------------------------------------------------------ IPO


def test_ipo_by_hand() -> None:
    """Log-ratios (.5, 1) and (−1): means .75 and −1, Δ = 1.75; β = .5 asks for 1: (.75)² = .5625.

    As sums 1.5 and −1: Δ = 2.5, 1.5² = 2.25.
    """
    logprobs = tensor(-0.5, -1, -1.5)
    assert loss(IPO(beta=0.5), batch(PAIR), logprobs=logprobs).item() == pytest.approx(0.5625, abs=1e-12)
    sums = loss(IPO(beta=0.5, log_ratio="sum"), batch(PAIR), logprobs=logprobs).item()
    assert sums == pytest.approx(2.25, abs=1e-12)


@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_ipo_at_the_reference_is_1_over_4_beta_squared(beta: float) -> None:
    at = loss(IPO(beta=beta), batch(PAIR), logprobs=tensor(-1, -2, -0.5))
    assert at.item() == pytest.approx(1 / (4 * beta**2), abs=1e-10)


@pytest.mark.parametrize("p", [0.5, 0.75, 1.0])
def test_two_completions_end_at_a_gap_of_p_minus_a_half_over_beta(p: float) -> None:
    """∂L/∂Δ = 2 (Δ − (2p − 1) / (2β)): 0 there, and bounded even for p = 1."""
    data = group(*REFERENCE, comparisons=(Comparison(a=0, b=1, choice="a", probability=p),))
    logprobs = tensor(-1, -2 + (p - 0.5) / 0.4, -0.5, grad=True)
    loss(IPO(beta=0.4, log_ratio="sum"), batch(data), logprobs=logprobs).backward()
    assert logprobs.grad is not None
    assert logprobs.grad.abs().max().item() < 1e-14


def test_sound() -> None:
    check_objective(DPO(beta=0.3), at_reference=math.log(2))
    check_objective(DPO(beta=0.3, label_smoothing=0.2), at_reference=math.log(2))
    check_objective(DPO(beta=0.3, loss="robust", label_smoothing=0.2), at_reference=math.log(2))
    check_objective(DPO(beta=0.3, loss="hinge"), at_reference=1.0)
    check_objective(DPO(beta=0.3, reference_free=True))
    for divergence in ("forward_kl", "jensen_shannon", "alpha"):
        check_objective(DPO(beta=0.3, divergence=divergence), at_reference=math.log(2))
    check_objective(DPO(beta=0.3, nll_weight=0.5))
    check_objective(IPO(beta=0.5), at_reference=1.0)
    check_objective(IPO(beta=0.5, log_ratio="sum"), at_reference=1.0)
