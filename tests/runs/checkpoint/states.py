"""Small states to save, and the check that a checkpoint holds exactly one of them."""

from __future__ import annotations

from pathlib import Path

import torch

from trueup.runs.checkpoint import Checkpoint, save, state_digest


def state(step: int, size: int = 40) -> dict[str, dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(step)
    weights = torch.randn(size, generator=generator)
    return {"policy": {"w": weights}, "optimizer": {"m": weights.double() * 2, "step": torch.tensor(step)}}


def write(folder: Path, step: int, name: str = "", size: int = 40) -> Path:
    return save(
        folder,
        name or f"step-{step:06d}",
        tensors=state(step, size),
        documents={"state": {"step": step}},
        lines={"rollouts": [f"group {step}"]},
    )


def whole(found: Checkpoint | None) -> int:
    """The step the checkpoint holds; fails unless every part of it is of that one step."""
    assert found is not None
    step = found.document("state", names=("step",))["step"]
    held = {stem: found.tensors(stem) for stem in ("policy", "optimizer")}
    size = len(held["policy"]["w"])
    assert state_digest(held, {}) == state_digest(state(step, size), {})
    assert found.lines("rollouts") == [f"group {step}"]
    return step
