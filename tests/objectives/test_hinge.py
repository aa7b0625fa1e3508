"""The sequence-to-sequence hinge and SLiC-HF by hand."""

from __future__ import annotations

import pytest
import torch

from hand_batches import FIRST_WINS, batch, group, loss, tensor
from trueup.engine.batch import Outputs
from trueup.engine.groups import Comparison
from trueup.objectives.calibration import Demonstrations, SLiC
from trueup.objectives.hinge import Hinge
from trueup.testing import check_objective

PAIR = group(2, 1, comparisons=FIRST_WINS)
SLICS = [
    Hinge(),
    Hinge(per_token=True),
    SLiC(),
    SLiC(target="best"),
    SLiC(target="none"),
    SLiC(nll_weight=0.0),
]


def gradient(objective: Hinge | SLiC, *logprobs: float) -> list[float]:
    """∂L/∂log π of every token of PAIR."""
    given = tensor(*logprobs, grad=True)
    loss(objective, batch(PAIR), logprobs=given).backward()
    assert given.grad is not None
    return given.grad.tolist()


# ------------------------------------------------------------------------------------------ hinge


@pytest.mark.parametrize("delta", [0.0, 0.5, 1.0, 7.0])
def test_delta_where_both_are_equally_likely(delta: float) -> None:
    """L⁺ = −1 − 2 = −3 = L⁻: the loss is δ."""
    assert loss(Hinge(delta=delta), batch(PAIR), logprobs=tensor(-1, -2, -3)).item() == delta


@pytest.mark.parametrize(("gap", "expected"), [(-2.0, 3.0), (0.0, 1.0), (0.25, 0.75), (1.0, 0.0), (5.0, 0.0)])
def test_it_falls_to_0_at_a_gap_of_delta(gap: float, expected: float) -> None:
    """max(0, 1 − gap)."""
    assert loss(Hinge(), batch(PAIR), logprobs=tensor(-1, -2 + gap, -3)).item() == expected


def test_the_gradient_is_minus_and_plus_1_a_token_and_0_from_the_corner_on() -> None:
    assert gradient(Hinge(), -1, -2, -3) == [-1, -1, 1]
    assert gradient(Hinge(), -1, -1, -3) == [0, 0, 0]  # gap exactly δ: 0 by convention
    assert gradient(Hinge(), -1, -0.5, -3) == [0, 0, 0]


def test_sums_favour_the_short_one_and_means_do_not() -> None:
    """Tokens of −1 each: sums −2 against −1, gap −1, loss 2; means −1 against −1, loss δ = 1."""
    logprobs = tensor(-1, -1, -1)
    assert loss(Hinge(), batch(PAIR), logprobs=logprobs).item() == 2
    assert loss(Hinge(per_token=True), batch(PAIR), logprobs=logprobs).item() == 1
    assert gradient(Hinge(per_token=True), -1, -1, -1) == [-0.5, -0.5, 1]


def test_a_soft_label_is_a_mixture_of_both_orders() -> None:
    """gap .4, δ = 1: .75 (1 − .4) + .25 (1 + .4) = .45 + .35 = .8."""
    soft = group(2, 1, comparisons=(Comparison(a=0, b=1, choice="a", probability=0.75),))
    for objective in (Hinge(), SLiC(target="none")):
        assert loss(objective, batch(soft), logprobs=tensor(-1, -1.6, -3)).item() == pytest.approx(0.8)


def test_what_is_logged() -> None:
    terms = Hinge()(Outputs(logprobs=tensor(-1, -1.5, -3)), batch(PAIR))
    numbers = {name: entries.values.item() for name, entries in terms.metrics.items()}
    assert numbers == {
        "logprobs/chosen": -2.5,
        "logprobs/rejected": -3.0,
        "logprobs/margins": 0.5,
        "logprobs/accuracies": 1.0,
    }


# ------------------------------------------------------------------------------------------ SLiC-HF


def three(best: int) -> object:
    """Three completions of 2, 1 and 1 tokens; the first preferred to the second; one of them the best."""
    marks = [{"best": float(i == best)} for i in range(3)]
    return group(2, 1, 1, comparisons=FIRST_WINS, marks=marks)


def test_a_number_by_hand_for_each_target() -> None:
    """L = (−2.5, −3, −.7), λ = .2: hinge 1 − .5; with chosen .5 + .2 · 2.5, with best .5 + .2 · .7."""
    logprobs, packed = tensor(-1, -1.5, -3, -0.7), batch(three(best=2))
    by_target = {
        target: loss(SLiC(nll_weight=0.2, target=target), packed, logprobs=logprobs).item()  # pyright: ignore
        for target in ("chosen", "best", "none")
    }
    assert by_target == pytest.approx({"chosen": 1.0, "best": 0.64, "none": 0.5})


def test_without_lambda_it_is_the_hinge() -> None:
    for logprobs in ((-1.0, -2.0, -3.0), (-1.0, -1.5, -3.0), (-0.1, -0.1, -3.0)):
        plain = Hinge(delta=1.5)
        without = SLiC(delta=1.5, nll_weight=0.0)
        values = [loss(o, batch(PAIR), logprobs=tensor(*logprobs)).item() for o in (plain, without)]
        assert values[0] == values[1]
        assert gradient(plain, *logprobs) == gradient(without, *logprobs)


def test_beyond_delta_only_the_likelihood_flows() -> None:
    """Gap 2 > δ = 1: the calibration part gives nothing, the target's tokens keep −λ."""
    assert gradient(SLiC(nll_weight=0.3), -0.5, -0.5, -3) == [-0.3, -0.3, 0]
    assert gradient(SLiC(nll_weight=0.3), -1, -2, -3) == [-1.3, -1.3, 1]


def test_the_target_changes_the_second_part_alone() -> None:
    logprobs = Outputs(logprobs=tensor(-1, -1.5, -3, -0.7))
    packed = batch(three(best=2))
    chosen, best = (SLiC(target=t)(logprobs, packed).losses for t in ("chosen", "best"))
    assert torch.equal(chosen["hinge"][1].values, best["hinge"][1].values)
    assert (chosen["target"][1].values.item(), best["target"][1].values.item()) == (2.5, 0.7)
    same = SLiC(target="best")(logprobs, batch(three(best=0))).losses
    assert torch.equal(same["target"][1].values, chosen["target"][1].values)


def test_a_demonstration_is_the_sum_of_its_tokens() -> None:
    """−(−1 − 1.5) and −(−3), a mean of 2.75 over the two."""
    packed = batch(group(2), group(1))
    assert loss(Demonstrations(), packed, logprobs=tensor(-1, -1.5, -3)).item() == 2.75


@pytest.mark.parametrize("objective", SLICS, ids=str)
def test_sound(objective: Hinge | SLiC) -> None:
    check_objective(objective, rises=margin)


def test_demonstrations_sound() -> None:
    check_objective(Demonstrations())


def margin(outputs: Outputs, packed: object) -> torch.Tensor:
    """How far short of δ = 1 the pairs are on average, negated: what a step of the hinge raises."""
    terms = Hinge()(outputs, packed)  # pyright: ignore[reportArgumentType]
    return -terms.losses["hinge"][1].values.mean()
