"""HIR's losses by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from hand_batches import FIRST_WINS, batch, group, tensor
from trueup.annotate.relabel import instructed
from trueup.engine.batch import Outputs
from trueup.engine.method import Handles, Parts
from trueup.methods import hir
from trueup.objectives.hindsight import Hindsight
from trueup.objectives.likelihood import NLL, TextNLL
from trueup.testing import check_objective, gradient_of, minibatch
from trueup.testing.toys import StandIn, toy_groups, toy_prompt_ids


def parts_of(objective: Hindsight, logprobs: Tensor, table: Tensor) -> dict[str, float]:
    """The three losses of one pair of completions of two tokens each, before their weights."""
    pair = group(2, 2, comparisons=FIRST_WINS)
    terms = objective(Outputs(logprobs=logprobs, distributions=table), batch(pair))
    return {name: float(entries.values.sum()) for name, (_, entries) in terms.losses.items()}


def uniform(width: int) -> Tensor:
    return torch.full((4, width), -math.log(width), dtype=torch.float64)


def test_the_three_losses_by_hand() -> None:
    """Tokens of (½, ½) over V = 2; m⁺ = (−1 − 2) / 2 = −1.5, m⁻ = −2.5, ε = .2, z = 1.

    nll = .8 · 1.5 + .2 · log 2 = 1.338629; contrast = −.8 log σ(1) − .2 log σ(−1)
    = .8 · .313262 + .2 · 1.313262 = .513262; entropy = log 2.
    """
    found = parts_of(Hindsight(smoothing=0.2), tensor(-1, -2, -3, -2), uniform(2))
    assert found == pytest.approx(
        {"nll": 1.3386294, "contrastive": 0.5132617, "entropy": math.log(2)}, abs=1e-6
    )


def test_where_the_instruction_makes_no_difference_the_contrast_is_log_2() -> None:
    """P⁺ = P⁻, for any ε and any length."""
    for smoothing in (0.0, 0.2, 0.5):
        found = parts_of(Hindsight(smoothing=smoothing), tensor(-1, -3, -2, -2), uniform(3))
        assert found["contrastive"] == pytest.approx(math.log(2), abs=1e-12)


def test_the_contrast_is_least_where_the_gap_is_the_logit_of_epsilon() -> None:
    """ε = .2: at log 4 = 1.386 the gradient vanishes, and the value is the entropy of (.8, .2) = .500402."""
    logprobs = tensor(-1, -1, -1 - math.log(4), -1 - math.log(4), grad=True)
    pair = batch(group(2, 2, comparisons=FIRST_WINS))
    terms = Hindsight(smoothing=0.2)(Outputs(logprobs=logprobs, distributions=uniform(2)), pair)
    contrast = terms.losses["contrastive"][1].values.sum()
    (slope,) = torch.autograd.grad(contrast, logprobs)
    assert contrast.item() == pytest.approx(0.5004024, abs=1e-7)
    assert slope.abs().max().item() < 1e-15


def test_weights_and_signs() -> None:
    """c and e weigh; the entropy is a bonus, so its weight is negative."""
    terms = Hindsight(contrastive=3.0, entropy=0.5)(
        Outputs(logprobs=tensor(-1, -1, -2, -2), distributions=uniform(2)),
        batch(group(2, 2, comparisons=FIRST_WINS)),
    )
    assert {name: weight for name, (weight, _) in terms.losses.items()} == {
        "nll": 1.0,
        "contrastive": 3.0,
        "entropy": -0.5,
    }
    assert terms.metrics["hindsight/gap"].values.tolist() == [1.0]


def test_sound() -> None:
    check_objective(Hindsight(smoothing=0.2))
    check_objective(Hindsight(smoothing=0.0, contrastive=0.0, entropy=1.0))


def test_nothing_but_good_completions_is_supervised_finetuning() -> None:
    """ε = c = e = 0 and a threshold below all: the gradient of likelihood under the positive instruction,
    each completion weighing the same; and no critic or reference is in the method."""
    groups = [replace(g, comparisons=(), rankings=()) for g in toy_groups(5)]
    parts = Parts(groups=groups, held_out=[], decode=str, stop_ids=(0,), prompt_ids=toy_prompt_ids)
    algorithm = hir.Algorithm(smoothing=0.0, contrastive=0.0, entropy=0.0, threshold=-1.0, missing_eos=None)
    method = hir.build(hir.Config(algorithm=algorithm), parts)
    assert set(method.networks) == {"policy"}
    policy = StandIn()
    asked = [instructed(parts, algorithm.instruction, g) for g in groups]
    plain = [
        replace(
            g, prompt_tokens=prompt, completions=tuple(replace(c, supervised=None) for c in g.completions)
        )
        for g, prompt in zip(groups, asked, strict=True)
    ]
    handles = Handles(networks={"policy": policy}, judge=lambda gs: [[0.0] * len(g.completions) for g in gs])
    shown = plain
    for annotator in method.annotate:
        shown = annotator(shown, handles)
    found = gradient_of(minibatch(method.objective, {"policy": policy}, shown))
    # Two completions of each pair, so each of the first counts once in |pairs|: the mean over completions.
    wanted = gradient_of(minibatch(TextNLL(), {"policy": policy}, plain))
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, wanted[name], atol=1e-12, rtol=0)
    tokens = gradient_of(minibatch(NLL(), {"policy": policy}, plain))
    assert any(not torch.allclose(found[name], tokens[name]) for name in found)  # lengths differ
