"""A run on several devices leaves what one on one leaves; stopped or killed, it goes on on any number."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest
from safetensors.numpy import load_file

import small_world
from several import KILLED, on_ranks
from trueup.cli import main
from trueup.engine.ranks import Ranks
from trueup.errors import EXIT_USAGE, TrueupError
from trueup.runs.checkpoint import latest
from trueup.runs.devices import NAMES
from trueup.runs.one_stage import stage_of
from trueup.runs.recipe import Stage, run_stage
from trueup.runs.shareable import check_devices
from trueup.runs.signals import Interrupted
from trueup.settings.blocks import LoraSettings, ModelSettings
from trueup.settings.discover import find

JUDGE = """
def reward(prompt, completion):
    return (sum(map(ord, completion)) % 7) / 7

def watched(prompt, completion):
    return -len(completion) / 10
"""
LOOP = {"batch": 5, "save_every": 1, "eval_every": 2, "microbatch_tokens": 60}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and its data, and two runs of DPO: `one` of one process, `two` of two."""
    folder = small_world.make(tmp_path_factory.mktemp("devices"))
    rows = small_world.preferences()
    rows[3] = {"prompt": "a row", "chosen": 3, "rejected": "that is bad"}
    small_world.write(folder / "preferences.jsonl", rows)
    (folder / "judge.py").write_text(JUDGE, encoding="utf-8")
    run_stage(stage(folder, "dpo", "one"))
    assert several(stage(folder, "dpo", "two"), 2) == ["done", "done"]
    return folder


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


def soon() -> Callable[[int], str]:
    """A signal to rank 1 within the second step: each rank has a copy of the count."""
    polls = count()
    return lambda index: "SIGTERM" if next(polls) >= 6 and index == 1 else ""


def stopped(made: Stage, size: int, *, shard: bool = False) -> None:
    said = several(made, size, soon(), shard=shard)
    assert len(set(said)) == 1 and said[0].startswith("SIGTERM after step"), said
    assert not made.done


def test_the_folder_is_what_one_process_leaves(world: Path) -> None:
    run_stage(sampling(world, "sampled-one"))
    assert several(sampling(world, "sampled-two"), 2) == ["done", "done"]
    one, two = world / "sampled-one", world / "sampled-two"
    assert apart(one, two) < 1e-10
    assert {p.name for p in one.iterdir()} == {p.name for p in two.iterdir()}
    assert (one / "samples.jsonl").read_text() == (two / "samples.jsonl").read_text()
    assert (one / "data.json").read_text() == (two / "data.json").read_text()
    assert any("guard/lost" in row for row in numbers(two))


def test_stopped_by_one_rank_it_goes_on_on_any_number(world: Path) -> None:
    quarantined = (world / "one" / "quarantine.jsonl").read_text()
    assert quarantined and quarantined == (world / "two" / "quarantine.jsonl").read_text()
    assert apart(world / "one", world / "two") < 1e-10
    for size in (1, 3):
        made = stage(world, "dpo", f"resumed-{size}")
        stopped(made, 2)
        if size == 1:
            run_stage(made)
        else:
            assert several(made, size) == ["done"] * size
        assert apart(world / "one", made.folder) < 1e-10


def test_a_killed_rank_ends_the_others_who_name_it_and_the_run_goes_on(world: Path) -> None:
    polls = count()

    def killed(index: int) -> str:
        if next(polls) == 6 and index == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return ""

    made = stage(world, "dpo", "killed")
    began = time.monotonic()
    said = several(made, 2, killed)
    assert time.monotonic() - began < 30
    assert said[1] == KILLED
    assert said[0].startswith("E871 rank 0 — rank 1 was killed or hangs"), said
    assert several(made, 2) == ["done", "done"]
    assert bits(world / "two") == bits(made.folder)


def test_sharded_weights_are_kept_as_one_process_keeps_them(world: Path) -> None:
    made = stage(world, "dpo", "sharded")
    stopped(made, 2, shard=True)
    assert several(made, 2, shard=True) == ["done"] * 2
    assert apart(world / "one", made.folder) < 1e-10
    assert {p.name for p in (world / "one" / "model").iterdir()} == {
        p.name for p in (made.folder / "model").iterdir()
    }
    began, ended = (load_file(at / "model.safetensors") for at in (world / "my-model", made.folder / "model"))
    assert all((began[name] != ended[name]).any() for name in began)


@pytest.mark.slow
@pytest.mark.parametrize("shard", [False, True])
@pytest.mark.parametrize("lora", [None, {"rank": 2}])
@pytest.mark.parametrize("method", ["dpo", "grpo"])
def test_stopped_and_resumed_over_every_number_of_devices(
    world: Path, method: str, lora: dict[str, int] | None, shard: bool
) -> None:
    def made(out: str) -> Stage:
        model = {"path": str(world / "my-model"), "dtype": "float64", "device": "cpu", "lora": lora}
        given: dict[str, Any] = {"judge": f"{world / 'judge.py'}:reward", "decoding": {"max_new_tokens": 5}}
        name = f"{method}-{shard}-{bool(lora)}-{out}"
        return stage(world, method, name, model=model, **(given if method == "grpo" else {}))

    run_stage(made("one"))
    for first, second in ((2, 1), (1, 2), (3, 2), (2, 4), (4, 3)):
        run = made(f"{first}-{second}")
        stopped(run, first, shard=shard) if first > 1 else stopped_alone(run)
        assert several(run, second, shard=shard) == ["done"] * second if second > 1 else run_stage(run)
        assert apart(made("one").folder, run.folder) < 1e-10


def stopped_alone(made: Stage) -> None:
    polls = count()
    with pytest.raises(Interrupted):
        run_stage(made, stop_requested=lambda: "SIGTERM" if next(polls) >= 6 else "")


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["devices", "torchrun"])
@pytest.mark.parametrize(("rank", "how"), [(0, signal.SIGKILL), (1, signal.SIGKILL), (1, signal.SIGSTOP)])
def test_ranks_of_the_command_end_within_half_a_minute(
    world: Path, launcher: str, rank: int, how: signal.Signals
) -> None:
    out = world / f"command-{launcher}-{rank}-{how.name}"
    line = ["-m", "trueup", "train", str(world / "dpo.yaml"), "--out", str(out)]
    recipe = {**stage(world, "dpo", "none").settings}
    recipe["loop"] = {**recipe["loop"], "steps": 100_000, "save_every": 20}
    (world / "dpo.yaml").write_text(json.dumps(recipe), encoding="utf-8")
    run = ["-m", "torch.distributed.run", "--nproc-per-node", "2", *line] if launcher == "torchrun" else line
    more = [] if launcher == "torchrun" else ["--devices", "2"]
    with subprocess.Popen([sys.executable, *run, *more], stderr=subprocess.PIPE, text=True) as running:
        while not list(out.glob("checkpoints/step-*")):
            assert running.poll() is None, running.stderr and running.stderr.read()
            time.sleep(0.2)
        began = time.monotonic()
        os.kill(rank_of(running.pid, rank), how)
        assert running.stderr is not None
        said = running.stderr.read()
        # torchrun waits half a minute for a process that is stopped and cannot end.
        assert time.monotonic() - began < (60 if (launcher, how) == ("torchrun", signal.SIGSTOP) else 30)
    assert f"rank {rank} " in said and "E871" in said
    assert running.returncode != 0


def rank_of(launcher: int, rank: int) -> int:
    """The process of a rank, found among the launcher's children."""
    for child in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split():
        if f"RANK={rank}" in Path(f"/proc/{child}/environ").read_text().split("\0"):
            return int(child)
    raise AssertionError(f"no rank {rank}")


def test_what_several_devices_cannot_do_says_what_can(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(name: str, ranks: Ranks, quantise: Literal["none", "nf4"] = "none") -> str:
        method: Any = SimpleNamespace(name=name, update=vars(find(name))["Config"]().update)
        with pytest.raises(TrueupError) as error:
            check_devices(method, ModelSettings(path="m", lora=LoraSettings(quantise=quantise)), ranks)
        return error.value.code

    assert refused("trpo", Ranks(count=2)) == "E873"
    assert refused("dpo", Ranks(count=2, sharded=True), "nf4") == "E874"
    for name, value in {**dict.fromkeys(NAMES, "1"), "WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(world)
    assert main(["train", "dpo", "--devices", "3"]) == EXIT_USAGE
    assert "E872 --devices — 3 devices are asked for, and 2 ranks were started" in capsys.readouterr().err
    line = "--model.path my-model --data.path preferences.jsonl --model.device cuda:1 --out other"
    assert main(["train", "dpo", *line.split()]) == EXIT_USAGE
    assert "E872 model.device — model.device is cuda:1, one device" in capsys.readouterr().err
    with pytest.raises(TrueupError, match=r"E873 .*`train` alone uses more than one"):
        run_stage(stage(world, "dpo", "other"))
    assert main(["train", "dpo", "--tp_size", "2"]) == EXIT_USAGE
    assert "`--devices N --shard` splits weights" in capsys.readouterr().err
