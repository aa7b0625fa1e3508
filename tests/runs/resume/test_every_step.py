"""A run stopped and resumed is the run that was not, to the bit: weights, optimiser, metrics, samples."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runs.resume.made_runs import NUM_STEPS, UPDATES_PER_STEP
from trueup.runs import checkpoint, manifest
from trueup.runs.meter import METRICS

METHODS = ("sft", "reward_model", "dpo", "ppo")


class Server:
    """Starts runs, each in a new process."""

    def __init__(self) -> None:
        source = Path(manifest.__file__).parents[2]
        tests = Path(__file__).parents[2]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "runs.resume.server"],
            env={**os.environ, "PYTHONPATH": f"{source}:{tests}", "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def run(self, method: str, folder: Path, **request: Any) -> int:
        """The exit code of a run of `method` in `folder`."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"method": method, "folder": str(folder), **request}) + "\n")
        self._process.stdin.flush()
        return self._answer()["exit"]

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    started = Server()
    yield started
    started.close()


@pytest.fixture(scope="module")
def whole(server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """For every method the folder of a run that nothing interrupted."""
    found = {}
    for method in METHODS:
        folder = tmp_path_factory.mktemp(method)
        assert server.run(method, folder) == 0
        found[method] = folder
    return found


def final(folder: Path) -> dict[str, str]:
    """Hashes of all that a finished run must leave the same."""
    found = checkpoint.latest(folder / "checkpoints")
    assert found is not None
    assert not found.skipped
    return {
        "metrics": (folder / METRICS).read_text(),
        **{name: facts["sha256"] for name, facts in found.files.items()},
    }


def check_stop(server: Server, whole: Path, method: str, folder: Path, stop_after: int) -> None:
    assert server.run(method, folder, stop_after=stop_after) == 75
    assert not (folder / "end.txt").exists()
    assert server.run(method, folder) == 0
    assert final(folder) == final(whole)
    # Samples are given once each: none twice, none skipped, in one order.
    assert (folder / "ids.jsonl").read_text() == (whole / "ids.jsonl").read_text()


def test_the_runs_train_and_differ(whole: dict[str, Path]) -> None:
    """The comparison below would notice: the methods end apart, steps draw different groups, metrics move."""
    ends = {method: (folder / "end.txt").read_text() for method, folder in whole.items()}
    assert len(set(ends.values())) == len(METHODS)
    for method, folder in whole.items():
        steps = [json.loads(line) for line in (folder / "ids.jsonl").read_text().splitlines()]
        assert [step for step, _ in steps] == list(range(NUM_STEPS[method]))
        assert len({json.dumps([row[0] for row in rows]) for _, rows in steps}) > 1
        lines = [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]
        losses = [line["loss"] for line in lines if line["phase"] == "train"]
        assert len(set(losses)) == NUM_STEPS[method]


@pytest.mark.parametrize("stop_after", [3, 8])
@pytest.mark.parametrize("method", METHODS)
def test_stopped_after_an_update(
    server: Server, whole: dict[str, Path], tmp_path: Path, method: str, stop_after: int
) -> None:
    check_stop(server, whole[method], method, tmp_path, stop_after)


@pytest.mark.slow  # every other update of every method, each with two processes
@pytest.mark.parametrize(
    ("method", "stop_after"),
    [
        (method, stop_after)
        for method in METHODS
        for stop_after in (1, 2, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15)
        if stop_after < NUM_STEPS[method] * UPDATES_PER_STEP[method]
    ],
)
def test_stopped_after_any_update(
    server: Server, whole: dict[str, Path], tmp_path: Path, method: str, stop_after: int
) -> None:
    check_stop(server, whole[method], method, tmp_path, stop_after)


@pytest.mark.parametrize(
    "method",
    ["ppo", pytest.param("dpo", marks=pytest.mark.slow)],  # 16 processes, then 14
)
def test_stopped_after_every_single_update(
    server: Server, whole: dict[str, Path], tmp_path: Path, method: str
) -> None:
    """One run in as many processes as it has updates."""
    for stop_after in range(1, NUM_STEPS[method] * UPDATES_PER_STEP[method]):
        assert server.run(method, tmp_path, stop_after=stop_after) == 75
    assert server.run(method, tmp_path) == 0
    assert final(tmp_path) == final(whole[method])


def kill_until_done(server: Server, whole: Path, method: str, folder: Path, kills: int, seed: int) -> None:
    """Kills a run, and what resumes it, at random moments; then lets it end."""
    rng = random.Random(seed)
    loop = {"save_every_updates": 1, "save_every": 1}
    codes = []
    for _ in range(kills):
        moment = [rng.randint(1, 2), rng.uniform(0, 0.1)]
        codes.append(server.run(method, folder, kill_after=moment, loop=loop))
    assert codes[0] == -9
    assert set(codes) <= {-9, 0}
    assert server.run(method, folder, loop=loop) == 0
    assert final(folder) == final(whole)


@pytest.mark.parametrize("method", METHODS)
def test_killed_at_random_times(server: Server, whole: dict[str, Path], tmp_path: Path, method: str) -> None:
    kill_until_done(server, whole[method], method, tmp_path, kills=3, seed=1)


@pytest.mark.slow  # 4 methods, 5 runs each, up to 10 kills a run
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("method", METHODS)
def test_killed_at_random_times_often(
    server: Server, whole: dict[str, Path], tmp_path: Path, method: str, seed: int
) -> None:
    kill_until_done(server, whole[method], method, tmp_path, kills=10, seed=seed + 10)


def check_signal(server: Server, whole: Path, folder: Path, name: str, phase: str) -> None:
    assert server.run("ppo", folder, signal=[name, phase]) == 75
    found = checkpoint.latest(folder / "checkpoints")
    assert found is not None
    assert not found.skipped
    assert server.run("ppo", folder) == 0
    assert final(folder) == final(whole)


PHASES = ("load", "collect", "score", "update", "eval", "save")
SIGNALS = ("SIGTERM", "SIGINT", "SIGUSR1")


@pytest.mark.parametrize(
    ("name", "phase"), [(SIGNALS[number % 3], phase) for number, phase in enumerate(PHASES)]
)
def test_a_signal_in_any_phase_saves_and_ends_with_75(
    server: Server, whole: dict[str, Path], tmp_path: Path, name: str, phase: str
) -> None:
    check_signal(server, whole["ppo"], tmp_path, name, phase)


@pytest.mark.slow  # the other pairs of a signal and a phase
@pytest.mark.parametrize(
    ("name", "phase"),
    [(name, phase) for number, phase in enumerate(PHASES) for name in SIGNALS if name != SIGNALS[number % 3]],
)
def test_every_signal_in_every_phase(
    server: Server, whole: dict[str, Path], tmp_path: Path, name: str, phase: str
) -> None:
    check_signal(server, whole["ppo"], tmp_path, name, phase)
