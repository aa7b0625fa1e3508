"""Nothing on the way of a step or of a sample is made on the host and used on the device without being sent.

No GPU is needed: the device is `meta`, and an operation that mixes it with a tensor of the host is caught.
A number alone (no dimensions) may be mixed, as on a GPU.
"""

from __future__ import annotations

import functools
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import tiny_models
import trueup
from planning.test_plan import DIFFERENT, SLOW, model
from trueup.models.generate import generate
from trueup.models.load import from_modules
from trueup.planning import counting, memory

ONE = "dpo"
# trpo's many products take half a minute; these count on the device what `meta` has no way to count, and
# reward models of steps ask for rows that a plan cannot make up.
LEFT_OUT = {"trpo", "pmp", "reward_model", "prm"}
MANY = sorted({*DIFFERENT, *SLOW} - LEFT_OUT - {ONE})


@pytest.fixture
def mixed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Lines of trueup that mixed a host's tensor with one of the device."""
    found: list[str] = []
    shape_of = counting._shape_of

    def caught(tensor: Tensor) -> Tensor:
        if not tensor.is_meta and tensor.dim() > 0:
            ours = [f for f in traceback.extract_stack() if "/trueup/" in f.filename]
            found.append(" < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(ours[-4:])))
        return shape_of(tensor)

    monkeypatch.setattr(counting, "_shape_of", caught)
    return found


@pytest.mark.parametrize("method", [ONE, *(pytest.param(name, marks=pytest.mark.slow) for name in MANY)])
def test_a_step_stays_on_its_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mixed: list[str], method: str
) -> None:
    """With and without the fused kernel: bfloat16 takes it, float32 takes blocks."""
    within = memory.counting
    counted: list[int] = []

    @contextmanager
    def stepping(*args: Any) -> Iterator[Any]:
        mixed.clear()  # before a step, a plan tries what the architecture does on indices of the host
        with within(*args) as live:
            yield live
        counted.append(len(mixed))

    monkeypatch.setattr(memory, "counting", stepping)
    monkeypatch.setattr(memory, "Handles", functools.partial(memory.Handles, device="meta"))
    path = model(tmp_path)
    for dtype in ("bfloat16", "float32"):
        block = {"path": path, "dtype": dtype, "activation_checkpointing": "selective"}
        trueup.plan(method, gpu="H100", model=block, row_tokens=64, update={"lr": 1e-5})
        assert counted and not any(counted), mixed[:3]


def test_what_is_mixed_is_caught(mixed: list[str]) -> None:
    with counting.counting("cuda"):
        torch.ones(3, device="meta") + torch.ones(3)
        torch.ones(3, device="meta") * torch.tensor(2.0)
    assert len(mixed) == 1


@pytest.mark.parametrize("truncated", [False, True])
def test_sampling_stays_on_its_device(
    monkeypatch: pytest.MonkeyPatch, mixed: list[str], truncated: bool
) -> None:
    """Prompts of two lengths, two samples each."""
    # Inference mode hands composed operations on whole, so that a number read is not seen as one.
    monkeypatch.setattr(torch, "inference_mode", torch.no_grad)
    network = from_modules(tiny_models.FAMILIES["llama"](), None)
    network.module.to("meta")
    prompts = [np.arange(n, dtype=np.int32) for n in (3, 5)]
    given: dict[str, Any] = {"top_k": 5, "top_p": 0.9} if truncated else {}
    with counting.counting("cuda"):
        found = generate(network, prompts, k=2, max_new_tokens=4, stop_ids=[0], **given)
    assert not mixed, mixed[:3]
    assert [len(one.tokens) for row in found for one in row] == [4] * 4
