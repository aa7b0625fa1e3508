"""A run on several devices leaves what one on one leaves; stopped or killed, it goes on on any number."""

from __future__ import annotations

import json
import math
import os
import signal
import time
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import small_world
from several import KILLED, on_ranks
from trueup.engine.ranks import Ranks
from trueup.runs.checkpoint import latest
from trueup.runs.one_stage import stage_of
from trueup.runs.recipe import Stage, run_stage
from trueup.settings.discover import find

JUDGE = """
def reward(prompt, completion):
    return (sum(map(ord, completion)) % 7) / 7

def watched(prompt, completion):
    return -len(completion) / 10
"""
LOOP = {"batch": 5, "save_every": 1, "eval_every": 2, "microbatch_tokens": 60}


@pytest.fixture
def world(tmp_path: Path) -> Path:
    small_world.make(tmp_path)
    rows = small_world.preferences()
    rows[3] = {"prompt": "a row", "chosen": 3, "rejected": "that is bad"}
    small_world.write(tmp_path / "preferences.jsonl", rows)
    (tmp_path / "judge.py").write_text(JUDGE, encoding="utf-8")
    return tmp_path


def stage(world: Path, method: str, out: str, **given: Any) -> Stage:
    """A run of a method on the small world's files, in float64."""
    data = "prompts" if method == "grpo" else "preferences"
    values: dict[str, Any] = {
        "model": {"path": str(world / "my-model"), "dtype": "float64", "device": "cpu"},
        "data": {"path": str(world / f"{data}.jsonl"), "held_out": 0.2, "max_bad": 0.1},
        "update": {"lr": 1e-3},
        **given,
    }
    values["loop"] = {**LOOP, "steps": 4, **given.get("loop", {})}
    return stage_of(find(method), values, name=method, folder=world / out, where="test")


def sampling(world: Path, out: str) -> Stage:
    """GRPO with a guard and the best step kept."""
    judge = f"{world / 'judge.py'}"
    loop = {"batch": 4, "best": "eval/score", "guard": {"judge": f"{judge}:watched", "patience": 1}}
    decoding = {"max_new_tokens": 5}
    return stage(world, "grpo", out, loop=loop, judge=f"{judge}:reward", num_completions=3, decoding=decoding)


def several(
    made: Stage, size: int, asks: Callable[[int], str] = lambda index: "", *, shard: bool = False
) -> list[Any]:
    """What each rank says at the end of a run; `asks` says at every poll whether a rank is asked to end."""

    def work(ranks: Ranks) -> str:
        run_stage(made, ranks=ranks, stop_requested=lambda: asks(ranks.index))
        return "done"

    return on_ranks(size, work, shard=shard)


def numbers(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def apart(one: Path, other: Path) -> float:
    """The largest difference of two runs' metrics and weights; infinite where they do not say the same."""
    pairs = list(zip(numbers(one), numbers(other), strict=True))
    if any(a.keys() != b.keys() for a, b in pairs):
        return math.inf
    found = [abs(a[k] - b[k]) for a, b in pairs for k in a if isinstance(a[k], float)]
    for mine, theirs in zip(*(weights(folder) for folder in (one, other)), strict=True):
        found += [float(np.abs(mine[name] - theirs[name]).max()) for name in mine]
    return max(found)


def weights(folder: Path) -> list[Mapping[str, np.ndarray]]:
    """The model's, and everything that the newest checkpoint has."""
    last = latest(folder / "checkpoints")
    assert last is not None
    return [
        load_file(file) for at in (folder / "model", last.path) for file in sorted(at.glob("*.safetensors"))
    ]


def bits(folder: Path) -> tuple[Any, ...]:
    """What has to be the same bytes."""
    last = latest(folder / "checkpoints")
    assert last is not None
    hashes = {name: facts["sha256"] for name, facts in last.files.items()}
    return hashes, (folder / "metrics.jsonl").read_bytes(), (folder / "held_out.json").read_bytes()


def test_the_folder_is_what_one_process_leaves(world: Path) -> None:
    run_stage(sampling(world, "one"))
    assert several(sampling(world, "two"), 2) == ["done", "done"]
    one, two = world / "one", world / "two"
    assert apart(one, two) < 1e-10
    assert {p.name for p in one.iterdir()} == {p.name for p in two.iterdir()}
    assert (one / "samples.jsonl").read_text() == (two / "samples.jsonl").read_text()
    assert (one / "data.json").read_text() == (two / "data.json").read_text()
    assert any("guard/lost" in row for row in numbers(two))


def test_stopped_on_one_rank_it_goes_on_on_any_number(world: Path) -> None:
    polls = count()  # each rank has a copy of it

    def soon(index: int) -> str:
        return "SIGTERM" if next(polls) >= 6 and index == 1 else ""

    run_stage(stage(world, "dpo", "one"))
    several(stage(world, "dpo", "two"), 2)
    quarantined = (world / "one" / "quarantine.jsonl").read_text()
    assert quarantined and quarantined == (world / "two" / "quarantine.jsonl").read_text()
    assert apart(world / "one", world / "two") < 1e-10
    for size in (1, 2, 3):
        out = f"resumed-{size}"
        said = several(stage(world, "dpo", out), 2, soon)
        assert said[0] == said[1] and said[0].startswith("SIGTERM after step"), said
        assert not (world / out / "DONE.json").exists()
        if size == 1:
            run_stage(stage(world, "dpo", out))
        else:
            assert several(stage(world, "dpo", out), size) == ["done"] * size
        assert apart(world / "one", world / out) < 1e-10
    assert bits(world / "two") == bits(world / "resumed-2")


def test_a_killed_rank_ends_the_others_who_name_it_and_the_run_goes_on(world: Path) -> None:
    polls = count()

    def killed(index: int) -> str:
        if next(polls) == 6 and index == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return ""

    several(stage(world, "dpo", "whole"), 2)
    began = time.monotonic()
    said = several(stage(world, "dpo", "cut"), 2, killed)
    assert time.monotonic() - began < 30
    assert said[1] == KILLED
    assert said[0].startswith("E871 rank 0 — rank 1 was killed or hangs"), said
    assert several(stage(world, "dpo", "cut"), 2) == ["done", "done"]
    assert bits(world / "whole") == bits(world / "cut")


@pytest.mark.parametrize("lora", [None, {"rank": 2}])
def test_sharded_weights_are_kept_as_one_process_keeps_them(world: Path, lora: dict[str, int] | None) -> None:
    polls = count()

    def soon(index: int) -> str:
        return "SIGTERM" if next(polls) >= 6 and index == 1 else ""

    def made(out: str) -> Stage:
        model = {"path": str(world / "my-model"), "dtype": "float64", "device": "cpu", "lora": lora}
        return stage(world, "dpo", out, model=model)

    run_stage(made("one"))
    said = several(made("two"), 2, soon, shard=True)
    assert said[0] == said[1] and said[0].startswith("SIGTERM after step"), said
    assert several(made("two"), 3, shard=True) == ["done"] * 3
    assert apart(world / "one", world / "two") < 1e-10
    assert {p.name for p in (world / "two" / "model").iterdir()} == {
        p.name for p in (world / "one" / "model").iterdir()
    }
