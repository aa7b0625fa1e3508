"""Four roles over one base: the numbers of separate networks, one copy of the weights."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from trueup import config as configuration
from trueup.errors import TrueupError
from trueup.groups import Completion, Group, Message, Role
from trueup.judges.open import open_judge
from trueup.method import Role as NetworkRole
from trueup.methods import ppo, reward_model
from trueup.models import LanguageModel, load, save
from trueup.models.shared import networks_over, open_base, same_weights, twin
from trueup.settings import LoraSettings
from trueup.training import Trained, model_path, train

TINY: dict[str, Any] = {
    "data": {"path": "lab:prompts", "limit": 12, "held_out": 0.25},
    "decoding": {"max_new_tokens": 6},
    "loop": {"steps": 3, "batch": 4, "save_every": 1, "keep_last": 9},
    "minibatch": 2,
    "update": {"lr": 1e-2, "lr_scale": {"value": 2.0}},
}
LORA = LoraSettings(rank=4)
METRICS = "metrics.jsonl"


def run(folder: Path, roles: str, *, steps: int = 3, lora: Any = None, **more: Any) -> Trained:
    """PPO on the lab's base with adapters of rank 4; it goes on where the folder holds checkpoints."""
    settings = {
        **TINY,
        "model": {"lora": lora or {"rank": 4}, "roles": roles},
        "loop": {**TINY["loop"], "steps": steps},
        **more,
    }
    return train(ppo, configuration.build(ppo.Config, settings, where="test"), folder)


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / METRICS).read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def separate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("separate")
    run(folder, "separate")
    return folder


def test_ppo_is_the_same_to_the_bit(separate: Path, tmp_path: Path) -> None:
    """Every metric of every step, and the adapter and the folder that come out."""
    run(tmp_path, "shared")
    assert records(tmp_path) == records(separate)
    assert records(tmp_path)[-1]["kl"] != 0
    ours, theirs = ({p.name: p.read_bytes() for p in (f / "model").iterdir()} for f in (tmp_path, separate))
    assert ours == theirs and "adapter_model.safetensors" in ours
