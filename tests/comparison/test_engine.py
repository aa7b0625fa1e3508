"""Local processes: what two jobs both lack is made by one of them while the other waits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from trueup.comparison import engine
from trueup.comparison.engine import LocalProcesses
from trueup.comparison.plan import Candidate, Job
from trueup.runs.recipe import Recipe

MAKE = """
import pathlib, sys, time
for name in sys.argv[1:]:
    folder = pathlib.Path(name)
    if (folder / "DONE.json").exists():
        continue
    try:
        folder.mkdir()
    except FileExistsError:
        sys.exit(9)  # another process is at work on it
    time.sleep(0.3)
    (folder / "DONE.json").touch()
"""


def test_jobs_that_lack_the_same_stage_do_not_run_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`b` needs what `a` makes; `c` needs nothing of theirs and need not wait."""
    needs = {"a": ["sft", "dpo"], "b": ["sft", "ppo"], "c": ["base"]}
    started: list[str] = []

    def planned(recipe: Recipe, folder: Path) -> list[SimpleNamespace]:
        return [SimpleNamespace(folder=folder / name) for name in needs[recipe.name]]

    def start(job: Job, folder: Path, threads: int) -> subprocess.Popen[bytes]:
        started.append(job.name)
        return subprocess.Popen([sys.executable, "-c", MAKE, *(str(folder / n) for n in needs[job.name])])

    monkeypatch.setattr(engine, "plan", planned)
    monkeypatch.setattr(engine, "_start", start)
    jobs = [
        Job(
            name=n,
            candidate=Candidate(method=n, label="", settings={}),
            seed=0,
            recipe=Recipe(name=n, stages={}),
        )
        for n in needs
    ]
    ended = dict((job.name, code) for job, code in LocalProcesses(2).run(jobs, tmp_path))
    assert ended == {"a": 0, "b": 0, "c": 0}, "no two worked on one stage"
    assert started == ["a", "c", "b"]
