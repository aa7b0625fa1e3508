"""Imitation: what is learned, and how pairs are ranked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from hand_batches import FIRST_WINS, batch, group, tensor
from trueup.engine.batch import Outputs
from trueup.engine.groups import Comparison
from trueup.engine.method import Handles, Parts
from trueup.engine.packing import pack
from trueup.methods import imitation
from trueup.objectives.likelihood import Imitation
from trueup.runs.keeper import evaluate, held_out_step
from trueup.testing.toys import StandIn, toy_groups


def accuracy(*logprobs: float, lengths: tuple[int, int], comparison: Comparison = FIRST_WINS[0]) -> float:
    """Whether the pair is ranked rightly."""
    made = group(*lengths, comparisons=[comparison], marks=[{"imitated": 1.0}, {"imitated": 0.0}])
    terms = Imitation()(Outputs(logprobs=tensor(*logprobs)), batch(made))
    return terms.metrics["accuracy"].values.item()


def test_the_mean_ranks_not_the_sum() -> None:
    """(−1, −1, −1) against (−2): means −1 > −2, though sums −3 < −2. Doubling one changes nothing."""
    assert accuracy(-1, -1, -1, -2, lengths=(3, 1)) == 1.0
    assert accuracy(-1, -1, -1, -1, -1, -1, -2, lengths=(6, 1)) == 1.0
    assert accuracy(-3, -2, -2, lengths=(1, 2)) == 0.0


def test_ties_count_half_and_soft_labels_rank_by_their_side() -> None:
    assert accuracy(-2, -2, -2, lengths=(1, 2)) == 0.5
    doubtful = Comparison(a=0, b=1, choice="a", probability=0.3)
    assert accuracy(-1, -2, lengths=(1, 1), comparison=doubtful) == 0.0
    assert accuracy(-3, -2, lengths=(1, 1), comparison=doubtful) == 1.0


def test_rejected_completions_are_not_trained_on() -> None:
    parts = Parts(groups=toy_groups(6), held_out=[], decode=str, stop_ids=())
    method = imitation.build(imitation.Config(), parts)
    shown = method.source(0, Handles(networks={}))
    for g in shown:
        assert not g.pairs()
        assert all(c.marks == {"imitated": 1.0} for c in g.completions)
    whole = {c.text: g for g in parts.groups for c in g.completions}
    for g in shown:
        pairs = whole[g.completions[0].text].pairs()
        rejected = {whole[g.completions[0].text].completions[p.rejected].text for p in pairs if p.label > 0.5}
        assert not rejected & {c.text for c in g.completions}


@pytest.mark.parametrize("microbatch_tokens", [1, 10**9])
def test_held_out_loss_is_over_the_chosen_and_accuracy_over_pairs(microbatch_tokens: int) -> None:
    """Beside rejected completions the loss is still the mean over chosen tokens alone."""
    # Plain comparisons only, so that what is chosen can be said without the code under test.
    held_out = [
        replace(g, comparisons=(Comparison(a=1, b=0, choice="a"),), rankings=())
        for g in toy_groups(5, seed=2)
    ]
    parts = Parts(groups=toy_groups(6), held_out=held_out, decode=str, stop_ids=())
    method = imitation.build(imitation.Config(), parts)
    policy = StandIn()
    handles = Handles(networks={"policy": policy}, dtype=torch.float64, microbatch_tokens=microbatch_tokens)
    said = evaluate(method, handles)
    with torch.no_grad():
        packed = pack(held_out)
        logprobs = policy(packed, ("logprobs",)).logprobs
    assert logprobs is not None
    by_completion = [logprobs[packed.completion == n].numpy() for n in range(packed.num_completions)]
    chosen = [by_completion[int(n)] for n in packed.pairs[:, 0]]
    rejected = [by_completion[int(n)] for n in packed.pairs[:, 1]]
    assert said["loss/nll"] == pytest.approx(-float(np.concatenate(chosen).mean()), abs=1e-12)
    right = [float(a.mean() > b.mean()) for a, b in zip(chosen, rejected, strict=True)]
    assert said["accuracy"] == pytest.approx(float(np.mean(right)), abs=1e-12)
    step = held_out_step(method, handles, {})
    assert step is not None and step.by_group()["accuracy"] == right
