"""Weights are counted from the headers of a folder's files, as the model's own modules count them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import small_world
from trueup.models.size import num_weights
from trueup.settings.stored import num_stored


def test_headers_say_what_the_modules_say(tmp_path: Path) -> None:
    folder = small_world.save_model(tmp_path / "model")
    assert num_stored(folder) == num_weights(str(folder)) > 0


def test_shards_are_added_up(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(3, 4), "b": torch.zeros(5)}, tmp_path / "model-1.safetensors")
    save_file({"c": torch.zeros(2, dtype=torch.bfloat16)}, tmp_path / "model-2.safetensors")
    shards = {"a": "model-1.safetensors", "b": "model-1.safetensors", "c": "model-2.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    assert num_stored(tmp_path) == 19


@pytest.mark.parametrize("tensor", [torch.zeros(8, dtype=torch.uint8), torch.zeros(1, 1, 4, 4)])
def test_what_may_be_no_weights_is_not_counted(tensor: torch.Tensor, tmp_path: Path) -> None:
    save_file({"a": torch.zeros(3), "b": tensor}, tmp_path / "model.safetensors")
    assert num_stored(tmp_path) is None


@pytest.mark.parametrize("content", [b"", b"no weights", b"\xff" * 16, b"\x02" + bytes(7) + b"[]"])
def test_damaged_files_say_nothing(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    assert num_stored(tmp_path) is None
    assert num_stored(tmp_path / "nowhere") is None
