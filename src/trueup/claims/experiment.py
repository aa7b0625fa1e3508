"""An experiment: one recipe at several seeds, its runs beside those of other experiments in one folder.

Stages are kept by their digest, so what two experiments share (the same SFT, the same reward model at the
same seed) is trained once, and what is done is skipped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trueup.comparison.engine import Engine, run_all
from trueup.comparison.plan import Candidate, Job
from trueup.engine import lines
from trueup.errors import TrueupError
from trueup.runs.done import Done, read_done
from trueup.runs.recipe import Recipe, Stage, plan
from trueup.settings.strict_yaml import read_yaml

Floats = NDArray[np.float64]
MEASURED = "measured.json"
SHARED = Path(__file__).with_name("stages.yaml")
"Stages that claims may run before their own."


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One seed's run of a recipe, every stage done."""

    seed: int
    stages: Mapping[str, Stage]

    def folder(self, stage: str) -> Path:
        """Where a stage wrote."""
        return self.stages[stage].folder

    def done(self, stage: str) -> Done:
        """What a stage handed on: its last metrics and its cost."""
        return read_done(self.folder(stage))

    def numbers(self, stage: str, name: str) -> Floats:
        """A `measure` stage's numbers of one name, [num_prompts, samples_per_prompt]: gold, kl, proxy ..."""
        return np.asarray(wrote(self, stage, MEASURED)["numbers"][name], np.float64)

    def exam(self, stage: str, name: str) -> Floats:
        """A `measure` stage's result in one exam, one number for each item."""
        return np.asarray(wrote(self, stage, MEASURED)["exams"][name], np.float64)

    def mean(self, stage: str, name: str) -> float:
        """The mean of a `measure` stage's numbers of one name, or of its exam of that name."""
        found = wrote(self, stage, MEASURED)
        return float(np.mean(found["numbers"].get(name, found["exams"].get(name))))

    def logged(self, stage: str, name: str) -> list[tuple[int, float]]:
        """(step, value) of one number at every held-out evaluation of a training stage."""
        rows = lines.read(self.folder(stage) / lines.METRICS)
        return [(row["step"], row[name]) for row in rows if row["phase"] == "eval"]


def wrote(trial: Trial, stage: str, file: str) -> Any:
    """The JSON value in a file that a stage wrote."""
    return json.loads((trial.folder(stage) / file).read_text(encoding="utf-8"))


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A recipe by a name, and the seeds that it is run at."""

    name: str
    recipe: Recipe
    seeds: Sequence[int]

    def jobs(self) -> list[Job]:
        """One job for each seed."""
        return [
            Job(
                name=f"{self.name}-seed{seed}",
                candidate=Candidate(method=self.name, label="", settings={}),
                seed=seed,
                recipe=replace(self.recipe, seed=seed),
            )
            for seed in self.seeds
        ]


def read_stages(path: Path) -> dict[str, dict[str, Any]]:
    """The stages of a claim's recipe: those of `stages.yaml` that it names under `shared`, then its own.

    `like: NAME` is a stage before it, or one of that file, but for what is given. Raises E713 for a name that
    neither has.
    """
    said, known = read_yaml(path).values, _written_out(read_yaml(SHARED).values, {}, SHARED)
    own = _written_out(said.get("stages", {}), known, path)
    return {**{name: _named(known, name, path) for name in said.get("shared", ())}, **own}


def _written_out(given: Mapping[str, Any], known: Mapping[str, Any], path: Path) -> dict[str, dict[str, Any]]:
    """Stages with `like` replaced by what that stage says: its settings, and of its blocks the keys."""
    found: dict[str, dict[str, Any]] = {}
    for name, stage in given.items():
        like = stage.get("like", "")
        base = {"method": like, **_named({**known, **found}, like, path)} if like else {}
        own = {key: value for key, value in stage.items() if key != "like"}
        blocks = {k: {**base[k], **v} for k, v in own.items() if isinstance(v, Mapping) and k in base}
        found[name] = {**base, **own, **blocks}
    return found


def _named(stages: Mapping[str, Any], name: str, path: Path) -> Any:
    if name not in stages:
        raise TrueupError(
            "E713", f"there is no stage {name!r}", where=str(path), remedy=f"one of {', '.join(stages)}"
        )
    return stages[name]


def run_experiments(
    experiments: Sequence[Experiment],
    folder: Path,
    engine: Engine,
    *,
    say: Callable[[str], None] = lambda line: None,
    stop_requested: Callable[[], str] = lambda: "",
) -> dict[str, list[Trial]]:
    """Every experiment's trials, by its name, in the order of its seeds. Stages are in `folder/stages`.

    An experiment of which a run failed is left out, and said with the last line that the run wrote.
    """
    jobs = {job.name: job for experiment in experiments for job in experiment.jobs()}
    failed = run_all(list(jobs.values()), folder, engine, say=say, stop_requested=stop_requested)
    return {
        experiment.name: [_trial(job, folder) for job in experiment.jobs()]
        for experiment in experiments
        if not failed.keys() & {job.name for job in experiment.jobs()}
    }


def _trial(job: Job, folder: Path) -> Trial:
    stages = {stage.name: stage for stage in plan(job.recipe, folder)}
    missing = [name for name, stage in stages.items() if not stage.done]
    if missing:
        raise TrueupError(
            "E717", "a stage is not done", where=f"{job.name} {missing[0]}", remedy="run it again"
        )
    return Trial(seed=job.seed, stages=stages)
