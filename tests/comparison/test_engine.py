"""Local processes: what two jobs both lack is made by one of them while the other waits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trueup.comparison import engine
from trueup.comparison.engine import LocalProcesses
from trueup.comparison.plan import Candidate, Job
from trueup.runs.recipe import Recipe, plan, read_recipe

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


def test_a_job_in_a_process_of_its_own_runs_the_very_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a job's process reads plans the stages that the comparison looks for, its world among them."""
    (tmp_path / "w.yaml").write_text("prompts: p.jsonl\njudges: {grade: 'rule:length'}\ntruth: grade\n")
    monkeypatch.chdir(tmp_path)
    rl = {"method": "reinforce", "model": {"path": "lab:base"}, "loop": {"steps": 1}}
    recipe = Recipe(name="rl", stages={"rl": rl, "measure": {"model": "stage:rl"}}, seed=3, world="w.yaml")
    job = Job(name="rl", candidate=Candidate(method="rl", label="", settings={}), seed=3, recipe=recipe)
    monkeypatch.setattr(engine.subprocess, "Popen", lambda command, **how: command)
    command: Any = engine._start(job, tmp_path, 1)
    again = plan(read_recipe(Path(command[3])), tmp_path)
    assert [stage.digest for stage in again] == [stage.digest for stage in plan(recipe, tmp_path)]
    assert again[0].settings["judge"] == "w.yaml:grade"
