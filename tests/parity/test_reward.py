"""TRL as an oracle for the reward model: the same loss and gradient on the same batch.

Both sides hold one random Llama and one score head, in float64. TRL runs every completion with its own padded
copy of the prompt and reads the last token that is no padding; trueup runs the prompt once for both.
"""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForSequenceClassification

from hand_batches import FIRST_WINS, batch, group, loss, tensor
from trueup.engine.groups import Comparison, Completion, Group
from trueup.models.load import from_modules
from trueup.objectives.reward_model import BradleyTerry
from trueup.testing import minibatch

# Deprecations inside TRL and what it builds on; nothing of ours raises them.
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
VOCABULARY, PAD = 24, 23
TOLERANCE = 1e-5


def classifier() -> LlamaForSequenceClassification:
    """A random model of two layers with one score."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=32,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=PAD,
        num_labels=1,
    )
    return LlamaForSequenceClassification(config).double()


def pairs(strengths: bool) -> list[Group]:
    """Seven prompts, each with a chosen and a rejected completion of other lengths."""
    rng = np.random.default_rng(1)
    out = []
    for number in range(7):
        completions = tuple(
            Completion(text=str(k), tokens=np.append(rng.integers(1, PAD, 1 + (number + 3 * k) % 5), 0))
            for k in range(2)
        )
        said = Comparison(a=1, b=0, choice="a", strength=float(1 + number % 4) if strengths else None)
        prompt = rng.integers(1, PAD, 1 + number % 3)
        out.append(Group(prompt=(), prompt_tokens=prompt, completions=completions, comparisons=(said,)))
    return out


def trl_loss(
    model: Any, groups: list[Group], *, margins: list[float] | None = None, center: float | None = None
) -> tuple[Tensor, float]:
    """TRL's own loss on these groups, chosen before rejected in one padded batch, and its accuracy."""
    trl = pytest.importorskip("trl", reason="the oracle comes with the test extra")
    rows = []
    for side in (1, 0):
        for one in groups:
            tokens = one.completions[side].tokens
            assert one.prompt_tokens is not None and tokens is not None
            rows.append(np.concatenate([one.prompt_tokens, tokens]))
    longest = max(map(len, rows))
    ids = torch.tensor(np.array([np.pad(r, (0, longest - len(r)), constant_values=PAD) for r in rows]))
    inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": (ids != PAD).long()}
    if margins is not None:
        inputs["margin"] = torch.tensor(margins, dtype=torch.float64)
    stand_in = SimpleNamespace(
        model=model.eval(),
        args=SimpleNamespace(center_rewards_coefficient=center),
        accelerator=SimpleNamespace(gather=lambda x: x, gather_for_metrics=lambda x: x),
        _metrics={"eval": defaultdict(list)},
        _total_train_tokens=0,
    )
    value = trl.RewardTrainer.compute_loss(stand_in, model, inputs)
    return value, stand_in._metrics["eval"]["accuracy"][0]


def ours(
    model: Any, objective: BradleyTerry, groups: list[Group]
) -> tuple[dict[str, float], dict[str, Tensor]]:
    """trueup's numbers and gradient with a copy of the model's body and head."""
    network = from_modules(copy.deepcopy(model.model), None, heads=("rewards",))
    head = network.module.get_submodule("reward_head")
    with torch.no_grad():
        head.get_parameter("linear.weight").copy_(model.score.weight)
    said = minibatch(objective, {"reward": network}, groups).backward()
    return said, {n: p.grad for n, p in network.module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("center", [0.0, 0.01])
@pytest.mark.parametrize("margin", [0.0, 0.3, (0.0, 1 / 3, 2 / 3, 1.0)])
def test_the_loss_and_its_gradient_are_trls(margin: float | tuple[float, ...], center: float) -> None:
    model, groups = classifier(), pairs(strengths=True)
    table = margin if isinstance(margin, tuple) else [margin * s for s in (1, 2, 3, 4)]
    margins = [table[number % 4] for number in range(len(groups))] if margin else None
    theirs, accuracy = trl_loss(model, groups, margins=margins, center=center or None)
    theirs.backward()
    said, gradient = ours(model, BradleyTerry(margin=margin, center=center), groups)
    assert said["loss"] == pytest.approx(theirs.item(), abs=TOLERANCE)
    assert said["accuracy"] == pytest.approx(accuracy, abs=TOLERANCE)
    expected = {f"model.{n}": p.grad for n, p in model.model.named_parameters()}
    expected["reward_head.linear.weight"] = model.score.weight.grad
    assert set(gradient) - {"reward_head.linear.bias"} == set(expected)
    for name, slope in expected.items():
        torch.testing.assert_close(gradient[name], slope, atol=TOLERANCE, rtol=0, msg=name)
    assert max(float(slope.abs().max()) for slope in gradient.values()) > 0.01


def test_rankings_are_averaged_inside_the_prompt_where_trl_averages_over_pairs() -> None:
    """A pair at Δ = 2, three pairs of a prompt at 0: (ℓ(2) + log 2) / 2; over pairs (ℓ(2) + 3 log 2) / 4."""
    said = tuple(Comparison(a=a, b=b, choice="a") for a, b in ((0, 1), (0, 2), (1, 2)))
    packed = batch(group(1, 1, comparisons=FIRST_WINS), group(1, 1, 1, comparisons=said))
    two = math.log(1 + math.exp(-2))
    value = loss(BradleyTerry(), packed, rewards=tensor(2, 0, 0, 0, 0)).item()
    assert value == pytest.approx((two + math.log(2)) / 2, abs=1e-12)
    assert abs(value - (two + 3 * math.log(2)) / 4) > 0.1
