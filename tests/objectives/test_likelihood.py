"""NLL by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from hand_batches import batch, group, loss, tensor
from trueup.objectives.likelihood import NLL, Imitation, TextNLL
from trueup.testing import check_objective, gradient_of, minibatch
from trueup.testing.toys import PROMPT_ONLY, VOCABULARY, StandIn, toy_groups


def uniform() -> StandIn:
    network = StandIn()
    with torch.no_grad():
        for p in network.parameters():
            p.zero_()
    return network


def test_mean_over_tokens_not_over_completions() -> None:
    """Log-probs (-1, -2, -3) and (-6): (1 + 2 + 3 + 6) / 4 = 3; a mean of means would be (2 + 6) / 2 = 4."""
    assert loss(NLL(), batch(group(3, 1)), logprobs=tensor(-1, -2, -3, -6)).item() == 3.0


def test_a_uniform_model_has_log_v_and_gradient_softmax_minus_onehot() -> None:
    """16 tokens: log 16 = 2.7726. The gradient of row s is Σ (1/16 − onehot) / T over its visits."""
    groups = toy_groups()
    step = minibatch(NLL(), {"policy": uniform()}, groups)
    assert step.evaluate()["loss"] == pytest.approx(math.log(16), abs=1e-12)
    found = gradient_of(step)["policy.table"]
    packed = batch(*groups)
    expected = torch.zeros(VOCABULARY, VOCABULARY, dtype=torch.float64)
    for state, target in zip(packed.tokens[packed.at].tolist(), packed.targets.tolist(), strict=True):
        expected[state] += 1 / 16
        expected[state, target] -= 1
    torch.testing.assert_close(found, expected / packed.count("token"), atol=1e-14, rtol=0)


def test_the_inside_of_a_prompt_changes_nothing() -> None:
    """Only what a completion is predicted from matters: here a prompt's last token and its length."""
    groups = toy_groups()
    others = []
    for g in groups:
        assert g.prompt_tokens is not None
        prompt = g.prompt_tokens.copy()
        prompt[:-1] = PROMPT_ONLY.start + (prompt[:-1] + 1) % 7
        others.append(replace(g, prompt_tokens=prompt))
    policy = {"policy": StandIn()}
    before, after = (minibatch(NLL(), policy, g).evaluate() for g in (groups, others))
    assert before == after
    assert any(
        not np.array_equal(a.prompt_tokens, b.prompt_tokens) for a, b in zip(groups, others, strict=True)
    )


def test_sound() -> None:
    check_objective(NLL(), rises=lambda outputs, _: outputs.logprobs.mean())


def test_a_text_weighs_the_same_however_long() -> None:
    """Log-probs (-1, -2, -3) and (-6): means −2 and −6, (2 + 6) / 2 = 4, where NLL has 3."""
    assert loss(TextNLL(), batch(group(3, 1)), logprobs=tensor(-1, -2, -3, -6)).item() == 4.0


def test_imitation_weighs_the_chosen_alone() -> None:
    """Of 4 tokens 3 are chosen: w = 4 / 3, so (1 + 2 + 3) · (4/3) / 4 = 2, the mean over the chosen."""
    made = batch(group(3, 1, marks=[{"imitated": 4 / 3}, {"imitated": 0.0}]))
    assert loss(Imitation(), made, logprobs=tensor(-1, -2, -3, -6)).item() == pytest.approx(2.0, abs=1e-15)


def test_the_others_are_sound() -> None:
    check_objective(TextNLL(), rises=lambda outputs, _: outputs.logprobs.mean())
    check_objective(Imitation())
