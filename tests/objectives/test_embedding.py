"""Triplet and DSSM losses by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from hand_batches import FIRST_WINS, batch, group, loss
from trueup.engine.batch import Batch, Outputs
from trueup.engine.groups import Comparison, Ranking
from trueup.objectives.embedding import DSSM, Triplet
from trueup.testing import check_objective
from trueup.testing.toys import toy_groups

PLAIN = Triplet(normalise=False)
TWO = batch(group(1, 1, comparisons=FIRST_WINS))


def rows(*values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def at(objective: Triplet | DSSM, packed: Batch, anchor: Tensor, completions: Tensor) -> float:
    return loss(objective, packed, prompt_embeddings=anchor, embeddings=completions).item()


A, P, N = rows((0.0, 0.0)), (0.3, 0.0), (0.4, 0.0)


def test_a_number_by_hand() -> None:
    """‖a − p‖² = .09, ‖a − n‖² = .16, α = .2: .09 − .16 + .2 = .13."""
    assert at(PLAIN, TWO, A, rows(P, N)) == pytest.approx(0.13)


def test_0_when_the_margin_is_kept() -> None:
    """.09 − .36 + .2 < 0."""
    assert at(PLAIN, TWO, A, rows(P, (0.6, 0.0))) == 0


@pytest.mark.parametrize("objective", [PLAIN, Triplet(), Triplet(margin=1.5)])
def test_collapsed_embeddings_give_alpha(objective: Triplet) -> None:
    same = rows((0.6, -0.8))
    assert at(objective, TWO, same, same.expand(2, 2)) == pytest.approx(objective.margin, abs=1e-15)


def test_the_gradient_at_the_anchor() -> None:
    """2 (a − p) − 2 (a − n) = 2 (n − p), wherever the anchor lies."""
    for a in (rows((0.0, 0.0)), rows((0.35, 0.1))):
        anchor = a.clone().requires_grad_()
        loss(PLAIN, TWO, prompt_embeddings=anchor, embeddings=rows(P, N)).backward()
        assert anchor.grad is not None
        torch.testing.assert_close(anchor.grad, 2 * (rows(N) - rows(P)))


def test_a_common_translation_changes_nothing() -> None:
    shift = rows((5.0, -3.0))
    assert at(PLAIN, TWO, A + shift, rows(P, N) + shift) == pytest.approx(at(PLAIN, TWO, A, rows(P, N)))


def test_normalised_embeddings_have_no_length() -> None:
    """Only directions count: a = (1, 0), p = (0, 1), n = (1, 0): 2 − 0 + .2."""
    assert at(Triplet(), TWO, rows((7.0, 0.0)), rows((0.0, 0.1), (3.0, 0.0))) == pytest.approx(2.2)


def test_semi_hard_wants_the_right_order_and_a_short_gap() -> None:
    semi = Triplet(normalise=False, semi_hard=True)
    assert at(semi, TWO, A, rows(P, N)) == pytest.approx(0.13)
    assert at(semi, TWO, A, rows(N, P)) == 0  # the negative is nearer: hard
    assert at(semi, TWO, A, rows(P, (0.6, 0.0))) == 0  # easy


def test_a_label_below_one_half_turns_the_pair() -> None:
    said = (Comparison(a=0, b=1, choice="a", probability=0.25),)
    assert at(PLAIN, batch(group(1, 1, comparisons=said)), A, rows(N, P)) == pytest.approx(0.13)


def test_dssm_by_hand() -> None:
    """cos = (1, 0, −1), γ = 2, the first over both: −log(e² / (e² + 1 + e⁻²)) = log(1 + e⁻² + e⁻⁴)."""
    packed = batch(group(1, 1, 1, rankings=(Ranking(tiers=((0,), (1, 2))),)))
    completions = rows((2.0, 0.0), (0.0, 3.0), (-1.0, 0.0))
    found = at(DSSM(gamma=2.0), packed, rows((1.0, 0.0)), completions)
    assert found == pytest.approx(math.log(1 + math.exp(-2) + math.exp(-4)))


def test_dssm_of_equal_cosines_is_the_log_of_how_many() -> None:
    packed = batch(group(1, 1, 1, rankings=(Ranking(tiers=((0,), (1, 2))),)))
    assert at(DSSM(), packed, rows((1.0, 0.0)), rows((1.0, 1.0)).expand(3, 2)) == pytest.approx(math.log(3))


def test_dssm_averages_over_a_groups_chosen_ones() -> None:
    """A chain a over b over c: chosen are a (negatives b, c) and b (negative c): (log 3 + log 2) / 2."""
    packed = batch(group(1, 1, 1, rankings=(Ranking(tiers=((0,), (1,), (2,))),)), group(1))
    found = at(DSSM(), packed, rows((1.0, 0.0)).expand(2, 2), rows((1.0, 1.0)).expand(4, 2))
    assert found == pytest.approx((math.log(3) + math.log(2)) / 2 / 2)  # the second group has no pair: 0


def test_accuracy_counts_the_nearer_and_ties_half() -> None:
    for completions, right in ((rows(P, N), 1.0), (rows(N, P), 0.0), (rows(P, P), 0.5)):
        terms = PLAIN(Outputs(prompt_embeddings=A, embeddings=completions), TWO)
        assert terms.metrics["accuracy"].values.item() == right
    assert terms.metrics["distance/chosen"].values.item() == pytest.approx(0.09)


def test_sound() -> None:
    active = {"collapsed": Triplet(margin=4.5), "plain": Triplet(margin=30.0, normalise=False)}
    for objective in (*active.values(), Triplet(margin=1.0, semi_hard=True), DSSM(), DSSM(gamma=30.0)):
        check_objective(objective, groups=toy_groups(9))
