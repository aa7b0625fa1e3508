"""TRL's SFTTrainer as an oracle: one loss and one gradient, padded there, packed here."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tiny_models import llama
from trueup.engine.loop import Step
from trueup.engine.method import Handles, Parts
from trueup.methods import sft
from trueup.models.load import from_modules
from trueup.models.opening import model_path
from trueup.settings.blocks import LoopSettings
from trueup.sources.files import demonstrations
from trueup.testing.toys import toy_groups

# Deprecations inside TRL and what it builds on; nothing of ours raises them.
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
TOLERANCE = 1e-5
IGNORED = -100


def rows(groups: Any) -> list[dict[str, list[int]]]:
    """Each completion after its prompt as TRL reads it, with labels only where a loss may be."""
    found = []
    for group in groups:
        prompt = group.prompt_tokens.tolist()
        for c in group.completions:
            touched = [True] * len(c.tokens) if c.supervised is None else c.supervised.tolist()
            labels = [t if on else IGNORED for t, on in zip(c.tokens.tolist(), touched, strict=True)]
            found.append(
                {"input_ids": prompt + c.tokens.tolist(), "labels": [IGNORED] * len(prompt) + labels}
            )
    return found


@pytest.mark.parametrize("lengths", ["ragged", "one text"])
def test_loss_and_gradient_are_those_of_trls_trainer(lengths: str, tmp_path: Path) -> None:
    """Mean over all supervised tokens of the batch, prompts and masked tokens left out."""
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    groups = demonstrations(toy_groups(9, seed=4))[: None if lengths == "ragged" else 1]
    assert any(c.supervised is not None for g in groups for c in g.completions) == (lengths == "ragged")
    model = llama()
    theirs = copy.deepcopy(model)

    args = SFTConfig(output_dir=str(tmp_path), use_cpu=True, report_to="none", max_length=None, bf16=False)
    trainer = SFTTrainer(
        model=theirs,
        args=args,
        train_dataset=Dataset.from_list(rows(groups)),
        processing_class=AutoTokenizer.from_pretrained(model_path("lab:base")),
    )
    batch = trainer.data_collator([dict(row) for row in trainer.train_dataset])
    expected = trainer.compute_loss(trainer.model, batch)
    expected.backward()

    config = sft.Config(loop=LoopSettings(batch=len(groups)))
    parts = Parts(groups=groups, held_out=[], decode=str, stop_ids=())
    method = sft.build(config, parts)
    handles = Handles(networks={"policy": from_modules(model, None)}, microbatch_tokens=40)
    said = Step(method, handles, groups, number=0).backward()

    assert said["loss"] == pytest.approx(float(expected), abs=TOLERANCE)
    found, wanted = gradients(model), gradients(theirs)
    assert found.keys() == wanted.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, wanted[name], atol=TOLERANCE, rtol=TOLERANCE, msg=name)
    assert max(float(g.abs().max()) for g in found.values()) > 1e-2  # it is no comparison of zeros


def gradients(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
