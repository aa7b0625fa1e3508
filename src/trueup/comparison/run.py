"""Runs a comparison from its plan to its table: start, shared stages, sweeps, chosen settings."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trueup.comparison import outcome
from trueup.comparison.cluster import HERE, Cluster
from trueup.comparison.engine import Engine, run_all
from trueup.comparison.engines import engine_of
from trueup.comparison.ground import ground_of, measured_by_trainer, trainer_lines, world_line
from trueup.comparison.outcome import Measured, Row
from trueup.comparison.plan import (
    Candidate,
    Comparison,
    Job,
    final_jobs,
    shared_jobs,
    start_jobs,
    sweep_jobs,
)
from trueup.engine import disk
from trueup.engine.inputs import changed_in
from trueup.errors import TrueupError
from trueup.reports.comparison import RESULT, write_comparison
from trueup.runs.hold import present
from trueup.runs.recipe import Stage, plan
from trueup.runs.signals import stop_requests
from trueup.runs.unchanged import STRICT, Terms
from trueup.settings import config as configuration
from trueup.settings.discover import find


@dataclass(kw_only=True)
class Running:
    """A comparison at work in a folder."""

    comparison: Comparison
    folder: Path
    engine: Engine
    say: Callable[[str], None] = lambda line: None
    stop_requested: Callable[[], str] = lambda: ""
    failed: dict[str, str] = field(default_factory=dict)
    "Jobs that ended in an error, with the last line they wrote."

    def phase(self, title: str, jobs: Sequence[Job]) -> dict[str, Measured]:
        """What each job measured, by the job's name; those that failed are left out and remembered."""
        self.failed |= run_all(
            jobs,
            self.folder,
            self.engine,
            title=f"{title}: ",
            told=lambda job: f"gold {self.measured([job])[job.name].mean('gold'):.3f}",
            say=self.say,
            stop_requested=self.stop_requested,
        )
        return self.measured(jobs)

    def measured(self, jobs: Sequence[Job]) -> dict[str, Measured]:
        """What each finished job measured, by the job's name."""
        found = {
            job.name: outcome.read_measured(plan(job.recipe, self.folder), job.candidate.method)
            for job in jobs
        }
        return {name: measured for name, measured in found.items() if measured is not None}


def compare_in(
    folder: Path,
    comparison: Comparison,
    *,
    workers: int = 2,
    cluster: Cluster = HERE,
    say: Callable[[str], None] = lambda line: None,
    terms: Terms = STRICT,
) -> list[Row]:
    """Every method's row of a comparison in a folder, made in so many processes, here or on a cluster.

    A signal lets them save.
    """
    with stop_requests() as stop_requested, present(folder):
        running = Running(
            comparison=comparison,
            folder=folder,
            engine=engine_of(cluster, workers, stop_requested, terms),
            say=say,
            stop_requested=stop_requested,
        )
        return run_comparison(running)


def run_comparison(running: Running) -> list[Row]:
    """Every method's row; also written to `comparison.json` and `comparison.md`."""
    comparison = running.comparison
    world = ground_of(comparison, running.folder)
    running.say(world_line(comparison, world))
    starts = start_jobs(comparison)
    start_on_dev = running.phase(f"{comparison.start}: settings", starts)
    start = _best(starts, start_on_dev, running)
    if not start:
        raise _nothing_to_compare(running, "every setting of the start failed")
    shared = shared_jobs(comparison, start[comparison.start])
    started = running.phase("shared stages", shared)
    if len(started) < len(shared):
        raise _nothing_to_compare(running, "a shared stage failed")
    tried = sweep_jobs(comparison, start[comparison.start])
    # A sweep of one setting has nothing to choose.
    open_choices = [job for mine in _by_method(tried).values() if len(mine) > 1 for job in mine]
    on_dev = running.phase("settings", open_choices)
    chosen = _best(tried, on_dev, running)
    final = final_jobs(comparison, start[comparison.start], chosen)
    found = running.phase("chosen settings", final)
    by_seed = [started[job.name] for job in shared if job.seed != comparison.sweep_seed]
    rows, runs = [], {comparison.start: by_seed}
    for name, candidate in chosen.items():
        mine = _by_method(final)[name]
        complete = [found[job.name] for job in mine if job.name in found]
        if len(complete) == len(mine):
            scores = _scores(_by_method(tried)[name], on_dev)
            rows.append(outcome.row(name, candidate.label, scores, complete, by_seed))
            runs[name] = complete
    finals = {job.candidate.method: plan(job.recipe, running.folder) for job in final}
    flattered = measured_by_trainer({r.method: _measured_model(finals[r.method]) for r in rows}, world)
    judged = {"truth": world.believed(), "measured_by_its_trainer": list(flattered)}
    _write(running, start[comparison.start], _scores(starts, start_on_dev), rows, runs, judged)
    for line in trainer_lines(flattered, world.believed()):
        running.say(line)
    return rows


def _measured_model(stages: Sequence[Stage]) -> tuple[Path, Any]:
    """The model that a run's last stage measured, and that stage's settings."""
    settings = stages[-1].config
    return Path(settings.model), settings


def _nothing_to_compare(running: Running, why: str) -> TrueupError:
    return TrueupError(
        "E716",
        f"{why}, so nothing can be compared",
        where=", ".join(running.failed),
        remedy=f"see {running.folder / 'logs'}",
    )


def _by_method(jobs: Sequence[Job]) -> dict[str, list[Job]]:
    found: dict[str, list[Job]] = {}
    for job in jobs:
        found.setdefault(job.candidate.method, []).append(job)
    return found


def _scores(jobs: Sequence[Job], found: Mapping[str, Measured]) -> dict[str, float | None]:
    """The mean gold of each job's setting; None where it failed."""
    return {job.candidate.label: found[job.name].mean("gold") if job.name in found else None for job in jobs}


def _best(jobs: Sequence[Job], found: Mapping[str, Measured], running: Running) -> dict[str, Candidate]:
    """For each method the candidate with the highest gold; a lone candidate needs no measurement."""
    best: dict[str, Candidate] = {}
    for name, mine in _by_method(jobs).items():
        golds = {label: gold for label, gold in _scores(mine, found).items() if gold is not None}
        if len(mine) == 1:
            best[name] = mine[0].candidate
        elif golds:
            best[name] = max((job.candidate for job in mine), key=lambda c: golds.get(c.label, -math.inf))
        else:
            running.say(f"{name}: every setting failed")
    return best


def _write(
    running: Running,
    start: Candidate,
    start_scores: Mapping[str, float | None],
    rows: Sequence[Row],
    runs: Mapping[str, Sequence[Measured]],
    judged: Mapping[str, Any],
) -> None:
    """`comparison.json`, and what is made of it: the table and the report."""
    comparison = running.comparison
    starts = runs[comparison.start]
    gaps = {name: gap and gap.to_json() for name, gap in outcome.against_best(rows).items()} if rows else {}
    families = {name: family(given.get("method", name)) for name, given in comparison.methods.items()}
    record = {
        "comparison": configuration.resolved(comparison),
        "num_prompts": len(starts[0].numbers["gold"]),
        "start": {
            "method": start.method,
            "chosen": start.label,
            "candidates": dict(start_scores),
            "gold_by_seed": [run.mean("gold") for run in starts],
            "length": starts[0].mean("length"),
        },
        "methods": [
            {**row.to_json(), "family": families[row.method], "behind_best": gaps.get(row.method)}
            for row in rows
        ],
        "samples": outcome.side_by_side({name: found[0] for name, found in runs.items()}),
        **judged,
        "failed": running.failed,
        "changed_inputs": changed_in(running.folder / "stages"),
    }
    disk.write(running.folder / RESULT, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    disk.write(running.folder / "comparison.md", outcome.markdown(rows))
    write_comparison(running.folder)


def family(method: Any) -> str:
    """The family a method belongs to, for grouping; "" for a file that does not say."""
    return str(vars(find(str(method))).get("FAMILY", ""))
