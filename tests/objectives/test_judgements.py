"""Choices, rankings and the language-modelling loss beside a score, by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from hand_batches import batch, group, loss, tensor
from trueup.engine.batch import Outputs
from trueup.engine.groups import Comparison
from trueup.objectives.listwise import Choice, PlackettLuce
from trueup.objectives.mix import Sum
from trueup.objectives.reward_model import BradleyTerry, Imitation
from trueup.sources.judged import ordered
from trueup.testing import check_objective
from trueup.testing.toys import toy_groups


def tiers(*values: float) -> list[dict[str, float]]:
    return [{"tier": v} for v in values]


def test_a_ranking_of_three_by_hand() -> None:
    """Worths e^r = 3, 2, 1 in order: P = 3/6 · 2/3 = 1/3, L = log 3; in reverse 1/6 · 2/5 = 1/15."""
    scores = tensor(math.log(3), math.log(2), 0)
    down, up = (batch(group(1, 1, 1, marks=tiers(*order))) for order in ((0, 1, 2), (2, 1, 0)))
    assert loss(PlackettLuce(), down, rewards=scores).item() == pytest.approx(math.log(3), abs=1e-12)
    assert loss(PlackettLuce(), up, rewards=scores).item() == pytest.approx(math.log(15), abs=1e-12)


def test_a_choice_of_three_by_hand_and_its_gradient() -> None:
    """Worths 3, 2, 1, the second best: L = log 6/2; ∂L/∂r = softmax − one-hot = (1/2, 1/3 − 1, 1/6)."""
    scores = tensor(math.log(3), math.log(2), 0, grad=True)
    value = loss(Choice(), batch(group(1, 1, 1, marks=tiers(1, 0, 1))), rewards=scores)
    value.backward()
    assert value.item() == pytest.approx(math.log(3), abs=1e-12)
    assert scores.grad is not None
    assert scores.grad.tolist() == pytest.approx([1 / 2, -2 / 3, 1 / 6], abs=1e-12)


def test_completions_of_one_tier_are_not_compared() -> None:
    """Worths 3 and 2 above 1: 3/4 · 2/3 = 1/2, L = log 2; the choice's mean over the two is half of it."""
    scores = tensor(math.log(3), math.log(2), 0)
    tied = batch(group(1, 1, 1, marks=tiers(0, 0, 1)))
    assert loss(PlackettLuce(), tied, rewards=scores).item() == pytest.approx(math.log(2), abs=1e-12)
    assert loss(Choice(), tied, rewards=scores).item() == pytest.approx(math.log(2) / 2, abs=1e-12)
    alone = batch(group(1, 1, 1, marks=tiers(0, 0, 0)))
    assert loss(PlackettLuce(), alone, rewards=scores).item() == pytest.approx(0, abs=1e-12)


def test_one_best_and_an_unordered_rest_is_a_choice() -> None:
    scores = tensor(0.3, -1.0, 2.0, 0.7)
    packed = batch(group(1, 1, 1, 1, marks=tiers(1, 1, 0, 1)))
    assert loss(PlackettLuce(), packed, rewards=scores) == loss(Choice(), packed, rewards=scores)


@pytest.mark.parametrize("objective", [PlackettLuce(), Choice()])
def test_groups_stand_apart_and_weigh_the_same(objective: PlackettLuce | Choice) -> None:
    two, three = group(1, 1, marks=tiers(0, 1)), group(1, 1, 1, marks=tiers(2, 0, 1))
    a = loss(objective, batch(two), rewards=tensor(1, -1))
    b = loss(objective, batch(three), rewards=tensor(0.2, 0.4, 0.9))
    both = loss(objective, batch(two, three), rewards=tensor(1, -1, 0.2, 0.4, 0.9))
    assert both.item() == pytest.approx(((a + b) / 2).item(), abs=1e-12)


@pytest.mark.parametrize("objective", [PlackettLuce(), Choice()])
def test_a_constant_of_the_prompt_changes_nothing(objective: PlackettLuce | Choice) -> None:
    packed = batch(group(1, 1, 1, marks=tiers(1, 0, 2)))
    first, second = (loss(objective, packed, rewards=tensor(0.3, 0.1, -2) + c) for c in (0, 40))
    assert first.item() == pytest.approx(second.item(), abs=1e-12)


def test_the_margin_may_be_a_table_by_strength() -> None:
    """Table (0, .5, 1): strength 2 asks .5, Δ = 2 − .5; strength 9 counts as the last, Δ = 2 − 1."""
    for strength, margin in ((1.0, 0.0), (2.0, 0.5), (9.0, 1.0)):
        packed = batch(group(1, 1, comparisons=(Comparison(a=0, b=1, choice="a", strength=strength),)))
        value = loss(BradleyTerry(margin=(0.0, 0.5, 1.0)), packed, rewards=tensor(2, 0)).item()
        assert value == pytest.approx(math.log(1 + math.exp(margin - 2)), abs=1e-12)


def test_a_soft_label_counts_in_accuracy_as_the_share_that_would_agree() -> None:
    packed = batch(group(1, 1, comparisons=(Comparison(a=0, b=1, choice="a", probability=0.2),)))
    for scores, expected in (((1, 0), 0.2), ((0, 1), 0.8), ((1, 1), 0.5)):
        terms = BradleyTerry()(Outputs(rewards=tensor(*scores)), packed)
        assert terms.metrics["accuracy"].values.item() == pytest.approx(expected)


def test_imitation_is_a_mean_over_each_good_completions_tokens() -> None:
    """Good: (−1, −3) and (−4), half each: (2 + 4) / 2 = 3. The bad one's tokens play no part."""
    one = group(2, 1, 2, marks=[{"imitate": 0.5}, {"imitate": 0.5}, {"imitate": 0.0}])
    logprobs = tensor(-1, -3, -4, -7, -9, grad=True)
    value = loss(Imitation(), batch(one), logprobs=logprobs)
    value.backward()
    assert value.item() == pytest.approx(3.0, abs=1e-12)
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == pytest.approx([-0.25, -0.25, -0.5, 0, 0], abs=1e-12)


def test_a_task_and_its_language_modelling_loss_are_affine_in_the_weight() -> None:
    """GPT-1: at zero scores of K = 4 the task's loss is log 4; the other is 2 nats: log 4 + 2 λ."""
    marks = [{"tier": float(k), "imitate": float(k == 0)} for k in range(4)]
    packed = batch(group(1, 1, 1, 1, marks=marks))
    for weight in (0.0, 0.5, 3.0):
        rewards, logprobs = tensor(0, 0, 0, 0), tensor(-2, -5, -6, -7, grad=True)
        both = Sum(((1.0, Choice()), (weight, Imitation())))
        value = loss(both, packed, rewards=rewards, logprobs=logprobs)
        value.backward()
        assert value.item() == pytest.approx(math.log(4) + 2 * weight, abs=1e-12)
        assert logprobs.grad is not None
        assert logprobs.grad.tolist() == [-weight, 0, 0, 0]


@pytest.mark.parametrize(
    "objective",
    [
        Imitation(),
        BradleyTerry(margin=(0.1, 0.4)),
        Sum(((1.0, BradleyTerry()), (0.5, Imitation()))),
    ],
    ids=lambda objective: type(objective).__name__,
)
def test_sound(objective: BradleyTerry) -> None:
    check_objective(objective)


@pytest.mark.parametrize("objective", [PlackettLuce(), Choice()])
def test_sound_on_orders(objective: PlackettLuce | Choice) -> None:
    hard = [
        replace(g, comparisons=tuple(replace(c, probability=None) for c in g.comparisons))
        for g in toy_groups(9)
    ]
    check_objective(objective, groups=ordered(hard))
