"""Fifty steps of every method on toy groups, as recorded; `python tests/golden/trajectories.py` records anew.

A method whose numbers are meant to change is recorded again, `python tests/golden/trajectories.py dpo`, and
CHANGELOG.md says why.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

from trueup.engine.loop import Progress, fit
from trueup.settings import discover
from trueup.testing.methods import open_toy, tiny_config
from trueup.testing.toys import share_of_even_tokens

HERE = Path(__file__).parent
NUM_STEPS = 50
KEYS = ("loss", "grad_norm")
METHODS = [name for name in discover.names() if "build" in vars(discover.find(name))]


class Enough(Exception):
    """As many steps as were asked for."""


def trajectory(module: ModuleType, num_steps: int = NUM_STEPS) -> list[dict[str, float]]:
    """The first numbers of a run of 50 steps in float32 on one thread: loss and gradient norm of each."""
    torch.set_num_threads(1)
    config = tiny_config(module)
    config = replace(config, loop=replace(config.loop, steps=NUM_STEPS, save_every=0, eval_every=0))
    method, handles = open_toy(module, config, share_of_even_tokens, None)
    seen: list[dict[str, float]] = []

    def progressed(progress: Progress, metrics: Mapping[str, float]) -> None:
        seen.append({key: float(metrics[key]) for key in KEYS if key in metrics})
        if len(seen) == num_steps:
            raise Enough

    with suppress(Enough):
        fit(method, handles, num_steps=NUM_STEPS, groups_per_step=config.loop.batch, progressed=progressed)
    return seen


def fingerprint() -> dict[str, str]:
    """What decides the last bit: the processor's instructions and the libraries that use them."""
    return {
        "machine": platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def recorded(name: str) -> tuple[dict[str, str], list[dict[str, float]]]:
    """The fingerprint and the numbers of a method's file; they are written in hexadecimal, so whole."""
    held = json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))
    steps = [{key: float.fromhex(value) for key, value in step.items()} for step in held["steps"]]
    return held["fingerprint"], steps


def record(name: str) -> None:
    """None; writes a method's file."""
    steps = [{key: value.hex() for key, value in step.items()} for step in trajectory(discover.find(name))]
    lines = ",\n".join("  " + json.dumps(step) for step in steps)
    text = f'{{"fingerprint": {json.dumps(fingerprint())},\n "steps": [\n{lines}\n]}}\n'
    (HERE / f"{name}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    for chosen in sys.argv[1:] or METHODS:
        record(chosen)
