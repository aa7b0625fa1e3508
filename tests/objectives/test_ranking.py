"""RRHF by hand, from scores to the loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from hand_batches import batch, group, handles, loss, tensor
from trueup.annotate.ranks import Ranked
from trueup.engine.batch import Batch, Outputs
from trueup.engine.groups import Comparison
from trueup.objectives.likelihood import NLL
from trueup.objectives.ranking import RRHF
from trueup.testing import check_objective

RANK = RRHF(nll_weight=0.0)


def scored(scores: Sequence[float], lengths: Sequence[int]) -> Batch:
    """One prompt's completions with those scores, ranked, packed."""
    made = group(*lengths, marks=[{"score": float(s)} for s in scores])
    return batch(*Ranked()([made], handles()[0]))


def test_the_cards_number() -> None:
    """p = (−1, −2, −1.5), r = (0, 1, 1): pairs (1 over 0) and (2 over 0); max(0, 1) + max(0, .5) = 1.5."""
    packed = scored((0, 1, 1), (1, 1, 1))
    terms = RRHF()(Outputs(logprobs=tensor(-1, -2, -1.5)), packed)
    assert terms.losses["rank"][1].values.tolist() == [1.5]
    assert terms.losses["best"][1].values.tolist() == [2.0]  # the first of the best
    assert loss(RRHF(), packed, logprobs=tensor(-1, -2, -1.5)).item() == 3.5


def test_p_is_a_mean_and_the_best_a_sum() -> None:
    """Tokens (−1, −2 | −1), r = (1, 0): p = (−1.5, −1): rank .5, best 3; its mean 1.5; rank of sums 2."""
    packed, logprobs = scored((1, 0), (2, 1)), tensor(-1, -2, -1)
    assert loss(RANK, packed, logprobs=logprobs).item() == 0.5
    assert loss(RRHF(), packed, logprobs=logprobs).item() == 3.5
    assert loss(RRHF(nll="mean"), packed, logprobs=logprobs).item() == 2.0
    assert loss(RRHF(nll_weight=0.0, length_penalty=0.0), packed, logprobs=logprobs).item() == 2.0
    assert loss(RRHF(rank_weight=4.0, nll_weight=0.5), packed, logprobs=logprobs).item() == 3.5


def test_in_order_there_is_no_ranking_loss() -> None:
    assert loss(RANK, scored((0, 1, 2), (1, 1, 1)), logprobs=tensor(-3, -2, -1)).item() == 0


def test_equal_scores_give_no_pair_in_either_direction() -> None:
    packed = scored((1, 1, 1), (1, 1, 1))
    assert packed.count("pair") == 0
    assert loss(RANK, packed, logprobs=tensor(-3, -2, -1)).item() == 0


def test_at_equal_p_there_is_neither_loss_nor_gradient() -> None:
    """Two identical responses with different scores teach nothing."""
    logprobs = tensor(-1, -1, grad=True)
    value = loss(RANK, scored((0, 1), (1, 1)), logprobs=logprobs)
    value.backward()
    assert logprobs.grad is not None
    assert (value.item(), logprobs.grad.tolist()) == (0, [0, 0])


@pytest.mark.parametrize("transform", [np.exp, lambda r: 3 * r - 7, np.arctan, lambda r: r**3])
def test_only_the_order_of_scores_matters(transform: Callable[[np.ndarray], np.ndarray]) -> None:
    scores, logprobs = np.array([0.3, -1.2, 0.9, 0.3]), tensor(-1, -2, -3, -0.5)
    before, after = (
        loss(RRHF(), scored(list(r), (1,) * 4), logprobs=logprobs).item() for r in (scores, transform(scores))
    )
    assert before == after


def test_one_response_is_supervised_finetuning() -> None:
    """The gradient is that of the NLL, but for what divides it: prompts, or tokens; with `mean` the same."""
    packed = scored((5.0,), (3,))
    grads = []
    for objective in (RRHF(), NLL(), RRHF(nll="mean")):
        logprobs = tensor(-1, -2, -0.3, grad=True)
        loss(objective, packed, logprobs=logprobs).backward()
        assert logprobs.grad is not None
        grads.append(logprobs.grad)
    assert grads[0].tolist() == [-1, -1, -1]
    torch.testing.assert_close(grads[1], grads[0] / 3)
    torch.testing.assert_close(grads[2], grads[1])


def test_accuracy_counts_pairs_in_order_and_ties_half() -> None:
    """r = (0, 1, 2), p = (−2, −2, −1): pairs (1, 0) tied, (2, 0) and (2, 1) right: (½ + 1 + 1) / 3."""
    terms = RRHF()(Outputs(logprobs=tensor(-2, -2, -1)), scored((0, 1, 2), (1, 1, 1)))
    assert terms.metrics["accuracy"].values.mean().item() == pytest.approx(2.5 / 3)
    assert terms.metrics["logprobs/mean"].values.tolist() == [-2, -2, -1]


def test_a_soft_label_is_a_mixture_of_both_orders() -> None:
    """p = (−1, −2), P(second preferred) = .75: .75 · 1 + .25 · 0; half of nothing where they are equal."""
    said = (Comparison(a=1, b=0, choice="a", probability=0.75),)
    packed = batch(group(1, 1, comparisons=said, marks=[{"best": 0.0}, {"best": 1.0}]))
    assert loss(RANK, packed, logprobs=tensor(-1, -2)).item() == 0.75
    assert RANK(Outputs(logprobs=tensor(-1, -2)), packed).metrics["accuracy"].values.item() == 0.25


def test_sound() -> None:
    for objective in (RRHF(), RRHF(nll="mean", length_penalty=0.5), RANK):
        check_objective(objective)
