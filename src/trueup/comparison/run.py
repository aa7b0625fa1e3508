"""Runs a comparison from its plan to its table: start, shared stages, sweeps, chosen settings."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trueup.comparison import outcome
from trueup.comparison.engine import Engine, LocalProcesses, last_line, preempted
from trueup.comparison.outcome import Measured, Row
from trueup.comparison.plan import (
    Candidate,
    Comparison,
    Job,
    candidates,
    final_jobs,
    shared_jobs,
    start_jobs,
    sweep_jobs,
)
from trueup.errors import TrueupError
from trueup.reports.comparison import RESULT, write_comparison
from trueup.runs.recipe import plan, write_atomically
from trueup.runs.signals import Interrupted, stop_requests
from trueup.settings import config as configuration
from trueup.settings.discover import find
from trueup.statistics.estimates import Estimate


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
        done = {job.name: self._measured(job) for job in jobs}
        left = [job for job in jobs if done[job.name] is None]
        self.say(f"{title}: {len(jobs)} runs, {len(jobs) - len(left)} done before")
        ended = len(jobs) - len(left)
        for job, code in self.engine.run(left, self.folder):
            if preempted(code):
                continue
            ended += 1
            done[job.name] = self._measured(job) if code == 0 else None
            found = done[job.name]
            if found is None:
                self.failed[job.name] = last_line(self.folder, job)
                self.say(f"  [{ended}/{len(jobs)}] {job.name}: failed: {self.failed[job.name]}")
            else:
                self.say(f"  [{ended}/{len(jobs)}] {job.name}: gold {found.mean('gold'):.3f}")
        if self.stop_requested():
            raise Interrupted(ended, self.stop_requested())
        return {name: found for name, found in done.items() if found is not None}

    def _measured(self, job: Job) -> Measured | None:
        assert job.candidate is not None
        return outcome.read_measured(plan(job.recipe, self.folder), job.candidate.method)


def compare_in(
    folder: Path,
    comparison: Comparison,
    *,
    workers: int = 2,
    say: Callable[[str], None] = lambda line: None,
) -> list[Row]:
    """Every method's row of a comparison in a folder, made in so many processes; a signal lets them save."""
    with stop_requests() as stop_requested:
        running = Running(
            comparison=comparison,
            folder=folder,
            engine=LocalProcesses(workers, stop_requested),
            say=say,
            stop_requested=stop_requested,
        )
        return run_comparison(running)


def run_comparison(running: Running) -> list[Row]:
    """Every method's row; also written to `comparison.json` and `comparison.md`."""
    comparison = running.comparison
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
    open_choices = [j for j in tried if len(candidates(_name(j), comparison.methods[_name(j)])) > 1]
    on_dev = running.phase("settings", open_choices)
    chosen = _best(tried, on_dev, running)
    final = final_jobs(comparison, start[comparison.start], chosen)
    found = running.phase("chosen settings", final)
    by_seed = [started[job.name] for job in shared if job.seed != comparison.sweep_seed]
    rows, runs = [], {comparison.start: by_seed}
    for name, candidate in chosen.items():
        every = [found.get(job.name) for job in final if _name(job) == name]
        complete = [run for run in every if run is not None]
        if len(complete) < len(every):
            continue
        scores = _scores([j for j in tried if _name(j) == name], on_dev)
        rows.append(outcome.row(name, candidate.label, scores, complete, by_seed))
        runs[name] = complete
    _write(running, start[comparison.start], _scores(starts, start_on_dev), rows, runs)
    return rows


def _nothing_to_compare(running: Running, why: str) -> TrueupError:
    return TrueupError(
        "E716",
        f"{why}, so nothing can be compared",
        where=", ".join(running.failed),
        remedy=f"see {running.folder / 'logs'}",
    )


def _name(job: Job) -> str:
    assert job.candidate is not None
    return job.candidate.method


def _scores(jobs: Sequence[Job], found: Mapping[str, Measured]) -> dict[str, float | None]:
    return {
        job.candidate.label: found[job.name].mean("gold") if job.name in found else None
        for job in jobs
        if job.candidate is not None
    }


def _best(jobs: Sequence[Job], found: Mapping[str, Measured], running: Running) -> dict[str, Candidate]:
    """For each method the candidate with the highest gold; a lone candidate needs no measurement."""
    best: dict[str, tuple[float, Candidate]] = {}
    alone = {name for name in map(_name, jobs) if sum(_name(j) == name for j in jobs) == 1}
    for job in jobs:
        name = _name(job)
        assert job.candidate is not None
        gold = found[job.name].mean("gold") if job.name in found else None
        if name in alone:
            best[name] = (0.0, job.candidate)
        elif gold is not None and (name not in best or gold > best[name][0]):
            best[name] = (gold, job.candidate)
    for name in {*map(_name, jobs)} - set(best):
        running.say(f"{name}: every setting failed")
    return {name: candidate for name, (_, candidate) in best.items()}


def _write(
    running: Running,
    start: Candidate,
    start_scores: Mapping[str, float | None],
    rows: Sequence[Row],
    runs: Mapping[str, Sequence[Measured]],
) -> None:
    """`comparison.json`, and what is made of it: the table and the report."""
    comparison = running.comparison
    starts = runs[comparison.start]
    gaps = outcome.against_best(rows) if rows else {}
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
            {**row.to_json(), "family": families[row.method], "behind_best": _json(gaps.get(row.method))}
            for row in rows
        ],
        "samples": outcome.side_by_side({name: found[0] for name, found in runs.items()}),
        "failed": running.failed,
    }
    write_atomically(running.folder / RESULT, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    write_atomically(running.folder / "comparison.md", outcome.markdown(rows))
    write_comparison(running.folder)


def family(method: Any) -> str:
    """The family a method belongs to, for grouping; "" for a file that does not say."""
    return str(vars(find(str(method))).get("FAMILY", ""))


def _json(estimate: Estimate | None) -> dict[str, Any] | None:
    return None if estimate is None else estimate.to_json()
