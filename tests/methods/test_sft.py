"""SFT with the auxiliary language-modelling loss: what the two weights do."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from trueup.engine.loop import Step
from trueup.engine.method import Handles, Parts
from trueup.engine.packing import pack
from trueup.methods import sft
from trueup.settings.blocks import LoopSettings
from trueup.sources.files import demonstrations
from trueup.testing.toys import PROMPT_ONLY, VOCABULARY, StandIn, toy_groups

GROUPS = demonstrations(toy_groups(6, seed=3))


def learned(
    policy: StandIn, *, task: float = 1.0, lm: float = 0.0, microbatch_tokens: int = 10**9
) -> tuple[dict[str, float], dict[str, Tensor]]:
    """What one update on all demonstrations logs, and its gradient."""
    parts = Parts(groups=GROUPS, held_out=[], decode=str, stop_ids=())
    config = sft.Config(task_weight=task, lm_weight=lm, loop=LoopSettings(batch=len(GROUPS)))
    handles = Handles(networks={"policy": policy}, dtype=torch.float64, microbatch_tokens=microbatch_tokens)
    policy.zero_grad()
    said = Step(sft.build(config, parts), handles, GROUPS, number=0).backward()
    return said, {
        n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in policy.named_parameters()
    }


def test_a_text_is_supervised_whole_after_its_first_token() -> None:
    (group,) = [g for g in GROUPS if g.id == "1"]
    completion = group.completions[0]
    assert group.prompt_tokens is not None and completion.tokens is not None
    made = sft.as_text(group, completion)
    batch = pack([made])
    whole = np.concatenate([group.prompt_tokens, completion.tokens]).tolist()
    assert batch.tokens.tolist() == whole
    assert batch.targets.tolist() == whole[1:]
    assert batch.at.tolist() == list(range(len(whole) - 1))


def test_the_loss_is_affine_in_both_weights() -> None:
    """loss(w, λ) = w · task + λ · lm, gradient and value."""
    policy = StandIn(1)
    said, task = learned(policy, task=1.0, lm=0.0)
    both, mixed = learned(policy, task=1.0, lm=0.5)
    _, weighed = learned(policy, task=0.25, lm=2.0)
    assert both["loss"] == pytest.approx(said["loss"] + 0.5 * both["loss/lm"], abs=1e-12)
    assert both["loss/nll"] == said["loss/nll"]
    for name, gradient in task.items():
        lm = 2 * (mixed[name] - gradient)
        torch.testing.assert_close(weighed[name], 0.25 * gradient + 2.0 * lm, atol=1e-12, rtol=0)


def test_with_weight_0_nothing_of_it_is_left() -> None:
    """Plain SFT to the bit; the inside of prompts, which the other loss alone sees, gets nothing."""
    policy = StandIn(1)
    parts = Parts(groups=GROUPS, held_out=[], decode=str, stop_ids=())
    assert sft.build(sft.Config(), parts).beside == ()
    said, plain = learned(policy, lm=0.0)
    assert said["loss"] == said["loss/nll"] and "loss/lm" not in said
    assert not plain["table"][PROMPT_ONLY].any()
    _, mixed = learned(policy, lm=0.5)
    assert mixed["table"][PROMPT_ONLY].any()


def test_a_uniform_model_has_log_v_in_both_losses() -> None:
    """16 tokens: log 16 = 2.7726 each, so (1 + 0.5) log 16 together."""
    policy = StandIn()
    with torch.no_grad():
        for p in policy.parameters():
            p.zero_()
    said, _ = learned(policy, lm=0.5)
    assert said["loss/nll"] == pytest.approx(math.log(VOCABULARY), abs=1e-12)
    assert said["loss/lm"] == pytest.approx(math.log(VOCABULARY), abs=1e-12)
    assert said["loss"] == pytest.approx(1.5 * math.log(VOCABULARY), abs=1e-12)


def test_the_cut_into_microbatches_changes_nothing() -> None:
    policy = StandIn(1)
    whole, parts = learned(policy, lm=0.5), learned(policy, lm=0.5, microbatch_tokens=1)
    assert whole[0] == pytest.approx(parts[0], abs=1e-12)
    for name, gradient in whole[1].items():
        torch.testing.assert_close(gradient, parts[1][name], atol=1e-12, rtol=0)
