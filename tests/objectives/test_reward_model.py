"""Bradley-Terry by hand, for pairs and rankings."""

from __future__ import annotations

import math

import pytest
import torch

from hand_batches import FIRST_WINS, batch, group, loss, tensor
from trueup.engine.batch import Outputs
from trueup.engine.groups import Comparison, Ranking
from trueup.objectives.reward_model import BradleyTerry
from trueup.testing import check_objective

PAIR = group(1, 1, comparisons=FIRST_WINS)


def ranked(k: int) -> Ranking:
    return Ranking(tiers=tuple((i,) for i in range(k)))


@pytest.mark.parametrize("k", range(2, 10))
def test_zero_scores_give_log_2_for_any_k(k: int) -> None:
    g = group(*[1] * k, rankings=[ranked(k)])
    assert loss(BradleyTerry(), batch(g), rewards=tensor(*[0] * k)).item() == pytest.approx(
        math.log(2), abs=1e-12
    )


def test_a_pair_by_hand_and_its_gradient() -> None:
    """Δ = 1.5 − .5 = 1: L = log(1 + 1/e) = .313262; ∂L/∂Δ = −σ(−1) = −.268941."""
    rewards = tensor(1.5, 0.5, grad=True)
    value = loss(BradleyTerry(), batch(PAIR), rewards=rewards)
    value.backward()
    assert value.item() == pytest.approx(0.3132616875, abs=1e-9)
    assert rewards.grad is not None
    assert rewards.grad.tolist() == pytest.approx([-0.2689414214, 0.2689414214], abs=1e-9)


def test_a_ranking_of_two_is_a_pair() -> None:
    rewards = tensor(0.3, -1.1)
    as_ranking = group(1, 1, rankings=[ranked(2)])
    assert loss(BradleyTerry(), batch(as_ranking), rewards=rewards) == loss(
        BradleyTerry(), batch(PAIR), rewards=rewards
    )


def test_three_by_hand() -> None:
    """Scores (1, 0, 0): pairs (0,1) and (0,2) at Δ = 1, (1,2) at 0: (2 · .313262 + .693147) / 3 = .439890."""
    g = group(1, 1, 1, rankings=[ranked(3)])
    assert loss(BradleyTerry(), batch(g), rewards=tensor(1, 0, 0)).item() == pytest.approx(
        0.4398901852, abs=1e-9
    )


def test_prompts_weigh_equally_whatever_their_k() -> None:
    """K = 2 has 1 pair and K = 9 has 36; the mean is of the two prompts, not of the 37 pairs."""
    nine = group(*[1] * 9, rankings=[ranked(9)])
    scores = [0.4 * i for i in range(9)]
    two_alone = loss(BradleyTerry(), batch(PAIR), rewards=tensor(2, 0))
    nine_alone = loss(BradleyTerry(), batch(nine), rewards=tensor(*scores))
    rewards = tensor(2, 0, *scores, grad=True)
    both = loss(BradleyTerry(), batch(PAIR, nine), rewards=rewards)
    assert both.item() == pytest.approx(((two_alone + nine_alone) / 2).item(), abs=1e-12)
    by_pairs = (two_alone + 36 * nine_alone) / 37
    assert abs(both - by_pairs) > 0.1
    both.backward()
    assert rewards.grad is not None
    assert rewards.grad[0].item() == pytest.approx(-0.5 / (1 + math.exp(2)), abs=1e-12)


def test_a_constant_of_the_prompt_changes_nothing() -> None:
    nine = group(*[1] * 9, rankings=[ranked(9)])
    scores = tensor(*[(7 * i % 5) / 3 for i in range(9)])
    first, second = (loss(BradleyTerry(), batch(nine), rewards=scores + c) for c in (0, 12.5))
    assert first.item() == pytest.approx(second.item(), abs=1e-12)


def test_the_optimum_is_log_wins_over_losses() -> None:
    """3 labelers prefer the first, 1 the second: Δ = log 3, and the loss there is the entropy of 1/4."""
    votes = [Comparison(a=0, b=1, choice=c) for c in ("a", "a", "b", "a")]  # pyright: ignore
    packed = batch(group(1, 1, comparisons=votes))
    scores = tensor(0, 0, grad=True)
    for _ in range(200):
        (slope,) = torch.autograd.grad(loss(BradleyTerry(), packed, rewards=scores), scores)
        with torch.no_grad():
            scores -= 2 * slope
    assert (scores[0] - scores[1]).item() == pytest.approx(math.log(3), abs=1e-9)
    entropy = -0.25 * math.log(0.25) - 0.75 * math.log(0.75)
    assert loss(BradleyTerry(), packed, rewards=scores).item() == pytest.approx(entropy, abs=1e-12)


def test_linear_scores_find_the_logistic_regression_of_feature_differences() -> None:
    """r = w · f: the same minimum as Newton's method on P(first) = σ(w · (f_1 − f_2)), no intercept."""
    draw = torch.Generator().manual_seed(0)
    features = torch.randn(40, 2, 3, generator=draw, dtype=torch.float64)
    noise = torch.randn(40, generator=draw, dtype=torch.float64)
    first = (features[:, 0] - features[:, 1]) @ tensor(1, -0.5, 0.2) + 2 * noise > 0
    groups = [group(1, 1, comparisons=(Comparison(a=0, b=1, choice="a" if won else "b"),)) for won in first]
    packed = batch(*groups)
    w = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    for _ in range(60):
        (slope,) = torch.autograd.grad(
            loss(BradleyTerry(), packed, rewards=(features @ w).flatten()), w, create_graph=True
        )
        curvature = torch.stack([torch.autograd.grad(s, w, retain_graph=True)[0] for s in slope])
        with torch.no_grad():
            w -= torch.linalg.solve(curvature, slope)
    difference, label = features[:, 0] - features[:, 1], first.double()
    v = torch.zeros(3, dtype=torch.float64)
    for _ in range(60):
        p = torch.sigmoid(difference @ v)
        hessian = difference.T @ ((p * (1 - p))[:, None] * difference)
        v = v + torch.linalg.solve(hessian, difference.T @ (label - p))
    torch.testing.assert_close(w.detach(), v, atol=1e-9, rtol=0)


def test_a_soft_label_has_its_least_loss_at_its_log_odds() -> None:
    """p = .75: minimum at Δ = log(.75 / .25) = log 3."""
    packed = batch(group(1, 1, comparisons=(Comparison(a=0, b=1, choice="a", probability=0.75),)))
    rewards = tensor(math.log(3), 0, grad=True)
    loss(BradleyTerry(), packed, rewards=rewards).backward()
    assert rewards.grad is not None
    assert rewards.grad.abs().max().item() < 1e-15


def test_the_margin_shifts_the_gap_by_strength() -> None:
    """m = .5, strength 3: Δ = 2 − 1.5 = .5, log(1 + e^−.5) = .474077."""
    strong = group(1, 1, comparisons=(Comparison(a=0, b=1, choice="a", strength=3.0),))
    value = loss(BradleyTerry(margin=0.5), batch(strong), rewards=tensor(2, 0))
    assert value.item() == pytest.approx(0.4740769842, abs=1e-9)


def test_centring_adds_the_squared_sum() -> None:
    """.01 · (1.5 + .5)² = .04."""
    rewards = tensor(1.5, 0.5)
    plain, centred = (loss(BradleyTerry(center=c), batch(PAIR), rewards=rewards) for c in (0.0, 0.01))
    assert (centred - plain).item() == pytest.approx(0.04, abs=1e-12)


def test_accuracy_counts_ties_half() -> None:
    g = group(1, 1, 1, rankings=[ranked(3)])
    terms = BradleyTerry()(Outputs(rewards=tensor(1, 0, 0)), batch(g))
    assert terms.metrics["accuracy"].values.item() == pytest.approx(2.5 / 3)


def test_a_group_without_pairs_gives_0() -> None:
    tied = group(1, 1, comparisons=(Comparison(a=0, b=1, choice="tie"),))
    terms = BradleyTerry()(Outputs(rewards=tensor(5, 1, 1, 0)), batch(tied, PAIR))
    assert terms.losses["bradley_terry"][1].values[0].item() == 0


def test_sound() -> None:
    check_objective(BradleyTerry())
    check_objective(BradleyTerry(margin=0.2, center=0.01))
