"""Signals from the first line of a command on; folders that cannot be written to; leaders that are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr
from pathlib import Path

import pytest

import small_world
import trueup
from torture.attacks import mounted
from torture.cuts import forked
from trueup.cli import main
from trueup.runs import checkpoint, manifest

SFT = ["train", "sft", "--model.path", "my-model", "--data.path", "demos.jsonl", "--loop.steps", "3"]
SFT += ["--loop.batch", "4", "--loop.save_every", "1", "--loop.keep_last", "1"]
PROGRAM = """
import os, signal, sys
from trueup import cli
name, phase, times = (sys.argv.pop(1) for _ in range(3))
def come(*_):
    for _ in range(int(times)):
        os.kill(os.getpid(), getattr(signal, name))
class Comes:
    def find_spec(self, module, path=None, target=None):
        if module == phase:
            sys.meta_path.remove(self)
            come()
sys.meta_path.insert(0, Comes())
sys.exit(cli.main())
"""


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    small_world.make(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "phase", "times", "said"),
    [
        ("SIGINT", "trueup.commands.app", 1, "nothing to save"),
        ("SIGINT", "cyclopts", 3, "nothing to save"),
        ("SIGTERM", "trueup.commands.train", 1, "nothing to save"),
        ("SIGUSR1", "rich.console", 3, "nothing to save"),
    ],
)
def test_a_signal_while_a_command_loads_ends_with_75(
    name: str, phase: str, times: int, said: str, tmp_path: Path
) -> None:
    """Whatever is imported when it comes: in the end the process is not killed by it, and says so."""
    source = Path(trueup.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, name, phase, str(times), *SFT, "--out", str(tmp_path / "run")],
        env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 75 and done.stderr.startswith(f"stopped ({name})"), done.stderr
    assert said in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


SIGNALS = ("SIGINT", "SIGTERM", "SIGUSR1")
PHASES = ("open_groups", "open_networks", "_note_held_out", "hand_on")


@pytest.mark.parametrize(
    ("name", "phase"),
    [
        # By default each phase with one signal.
        pytest.param(name, phase, marks=() if place % 3 == number else pytest.mark.slow)
        for place, phase in enumerate(PHASES)
        for number, name in enumerate(SIGNALS)
    ],
)
def test_a_signal_in_any_phase_ends_with_75_and_the_same_command_goes_on(
    name: str, phase: str, world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before the first step there is nothing to save; once the model is being written, it is finished."""
    from trueup.runs import training

    inner = getattr(training, phase)

    def sends(*args: object, **kwargs: object) -> object:
        os.kill(os.getpid(), getattr(signal, name))
        return inner(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(training, phase, sends)
        assert main([*SFT, "--out", "run"]) == (0 if phase == "hand_on" else 75)
    starting, last = "while starting: nothing new to save", "after step 3, saved"
    said = {"open_groups": starting, "open_networks": starting, "_note_held_out": last, "hand_on": ""}
    assert said[phase] in capsys.readouterr().err
    assert main([*SFT, "--out", "run"]) == 0
    assert (world / "run/DONE.json").is_file()


def test_a_folder_that_cannot_be_written_to_is_named_at_once(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (SFT, ["reproduce", "kl-directions"]):
        assert main([*command, "--out", "/proc/run"]) == 74
        assert capsys.readouterr().err.startswith("error E941 /proc/")


def test_a_mount_that_is_read_only(world: Path) -> None:
    """A run that is begun cannot go on there, and says so; what is finished is read."""
    assert main([*SFT, "--out", "there/done"]) == 0
    begun = world / "there/begun"
    begun.mkdir()

    def work() -> int:
        bind, read_only = 0x1000, 0x1021  # MS_BIND; MS_REMOUNT | MS_BIND | MS_RDONLY
        there = str(world / "there")
        mounted(world / "there", (there, bind, ""), (there, read_only, ""))
        with (world / "said").open("w") as said, redirect_stderr(said):
            codes = [main([*SFT, "--out", f"there/{name}"]) for name in ("done", "begun", "new")]
            codes.append(main(["report", "there/done"]))
        return 0 if codes == [0, 74, 74, 74] else 1

    code = forked(work, world / "printed")
    if code == 70:
        pytest.skip("this system lets nobody mount")
    said = (world / "said").read_text().splitlines()
    assert code == 0 and len(said) == 3, said
    for line, name in zip(said, ("begun", "new", "done"), strict=True):
        assert line.startswith(f"error E941 there/{name}") and "refused: Read-only file system" in line


def test_a_checkpoint_that_is_a_link_is_read_and_what_it_leads_to_is_never_removed(world: Path) -> None:
    """The rest of the run retires it: the link goes, and the folder elsewhere stays as it was."""
    assert main([*SFT, "--out", "run"]) == 0
    kept = world / "elsewhere"
    (found,) = (world / "run/checkpoints").iterdir()
    found.rename(kept)
    found.symlink_to(kept)
    (world / "run/checkpoints/.staging-x").symlink_to(kept)
    linked = checkpoint.latest(world / "run/checkpoints")
    assert linked is not None and not linked.skipped
    manifest.remove(world / "run/checkpoints", found.name)
    assert os.listdir(world / "run/checkpoints") == []
    assert manifest.verify(kept)


LEADER = """
import subprocess, sys, time
from pathlib import Path
from trueup.comparison.engine import LocalProcesses
from trueup.comparison.plan import Candidate, Job
from trueup.runs.recipe import Recipe
stages = {"sft": {"model": {"path": "my-model"}, "data": {"path": "demos.jsonl"}, "loop": {"steps": 100000}}}
chosen = Candidate(method="sft", label="", settings={})
job = Job(name="j", candidate=chosen, seed=0, recipe=Recipe(name="j", stages=stages))
print([code for _, code in LocalProcesses(1).run([job], Path("led"))])
"""


@pytest.mark.slow  # two processes that load torch
def test_a_job_saves_and_ends_when_its_leader_is_killed(world: Path) -> None:
    source = Path(trueup.__file__).parents[1]
    leader = subprocess.Popen([sys.executable, "-c", LEADER], env={**os.environ, "PYTHONPATH": str(source)})

    def metrics() -> int:
        return sum(p.stat().st_size for p in world.glob("led/stages/*/metrics.jsonl"))

    until = time.monotonic() + 120
    while not metrics() and time.monotonic() < until:
        time.sleep(0.1)
    leader.kill()
    leader.wait()
    while not list(world.glob("led/stages/*/checkpoints/step-*")) and time.monotonic() < until:
        time.sleep(0.1)
    time.sleep(2)
    before = metrics()
    time.sleep(1)
    assert before == metrics() > 0, "nobody goes on writing"
