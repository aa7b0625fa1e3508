"""Stages of a claim's own recipe that are said to have been run: what they wrote is made up."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trueup.claims import reproduce
from trueup.claims.experiment import Trial
from trueup.claims.finding import Finding
from trueup.runs.recipe import plan

Wrote = Callable[[str, int], Mapping[str, Any]]
"""(stage, seed) to what it wrote: `metrics` of DONE.json, `numbers` [num_prompts][num_samples] of
measured.json, and JSON files by their own names."""


def made_trials(name: str, folder: Path, wrote: Wrote, seeds: Sequence[int] = (1, 2, 3)) -> list[Trial]:
    """A trial for each seed, its stages planned as the claim's file says."""
    runs = reproduce.experiment(name, seeds=seeds)
    assert runs is not None
    trials = []
    for job in runs.jobs():
        stages = {stage.name: stage for stage in plan(job.recipe, folder)}
        for stage in stages.values():
            stage.folder.mkdir(parents=True, exist_ok=True)
            found = dict(wrote(stage.name, job.seed))
            done = {"output": "made", "metrics": found.pop("metrics", {})}
            measured = {"numbers": found.pop("numbers", {}), "exams": {}}
            for file, value in {"DONE.json": done, "measured.json": measured, **found}.items():
                (stage.folder / file).write_text(json.dumps(value), encoding="utf-8")
        trials.append(Trial(seed=job.seed, stages=stages))
    return trials


def found_of(name: str, folder: Path, wrote: Wrote, seeds: Sequence[int] = (1, 2, 3)) -> Finding:
    """What the claim finds in made-up stages."""
    module = importlib.import_module(f"trueup.claims.files.{name.replace('-', '_')}")
    return module.measure(made_trials(name, folder, wrote, seeds))


def noise(seed: int) -> float:
    """A little that differs by seed, so that intervals have a width."""
    return 0.001 * (seed % 3 - 1)
