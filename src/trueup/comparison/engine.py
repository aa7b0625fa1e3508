"""Runs jobs: processes on this machine, behind an interface that a cluster's scheduler serves too."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from trueup.comparison.job import LED
from trueup.comparison.plan import Job
from trueup.engine import disk
from trueup.errors import EXIT_PREEMPTED, counted
from trueup.runs.hold import mark
from trueup.runs.recipe import plan
from trueup.runs.signals import Interrupted
from trueup.runs.unchanged import STRICT, Terms
from trueup.settings.config import dump_yaml

POLL_SECONDS = 0.2


GONE = -signal.SIGKILL
"The exit code of a job whose process is no more and could not say why."


class Engine(Protocol):
    """Runs jobs and says how each ended, in the order in which they end."""

    def run(self, jobs: Sequence[Job], folder: Path) -> Iterator[tuple[Job, int]]:
        """Each job with its exit code, 0 is done. No two jobs that lack the same stage run at once."""
        ...


class Task(Protocol):
    """A job that was given away to be run."""

    @property
    def job(self) -> Job:
        """Which it is."""
        ...

    def ended(self) -> int | None:
        """Its exit code; None while it runs or waits to be run."""
        ...


T = TypeVar("T", bound=Task)


class Place(Protocol[T]):
    """Where jobs are run."""

    def start(self, jobs: Sequence[Job]) -> Sequence[T]:
        """A task for each job."""
        ...

    def stop(self, tasks: Sequence[T]) -> None:
        """Nothing; the tasks were asked to save and end, and do so in a while."""
        ...


@dataclass(frozen=True)
class LocalProcesses:
    """Up to `workers` processes at once, each on its share of the cores; output goes to `logs/JOB.log`."""

    workers: int
    stop_requested: Callable[[], str] = lambda: ""
    terms: Terms = STRICT
    "On which a stage that was left on the way may go on."

    def run(self, jobs: Sequence[Job], folder: Path) -> Iterator[tuple[Job, int]]:
        """Each job with its exit code. When a stop is asked for, running jobs save, and none is started."""
        place = _Here(folder, threads_each(self.workers), self.terms)
        return spread(jobs, folder, place, most=self.workers, stop_requested=self.stop_requested)


def threads_each(workers: int) -> int:
    """The share of this machine's cores that each of so many processes has."""
    return max(1, (os.cpu_count() or 1) // workers)


def spread(
    jobs: Sequence[Job],
    folder: Path,
    place: Place[T],
    *,
    most: int,
    stop_requested: Callable[[], str],
    losses: int | None = None,
    every: float = POLL_SECONDS,
) -> Iterator[tuple[Job, int]]:
    """Each job with its exit code, at most so many at once.

    A job whose missing stages another one is working on waits for it, and finds them done. With `losses` a
    job goes on when it was made to save and end, though nobody asked here, and, so many times, when its
    process is gone.
    """
    waiting, running, lost, asked = list(jobs), list[T](), Counter[str](), False
    stages = {job.name: [stage.folder for stage in plan(job.recipe, folder)] for job in jobs}
    try:
        while waiting or running:
            if not asked and stop_requested():
                asked, waiting = True, []
                place.stop(running)
            chosen = _apart(waiting, [task.job for task in running], stages, most)
            if chosen:
                waiting = [job for job in waiting if job not in chosen]
                running += place.start(chosen)
            for task, code in [(task, code) for task in running if (code := task.ended()) is not None]:
                running.remove(task)
                if not asked and _goes_on(task.job, code, lost, losses):
                    waiting.append(task.job)
                else:
                    yield task.job, code
            time.sleep(every)
    finally:
        if running and not asked:
            place.stop(running)
        while any(task.ended() is None for task in running):
            time.sleep(POLL_SECONDS)


def _goes_on(job: Job, code: int, lost: Counter[str], losses: int | None) -> bool:
    """Whether a job is to be begun again; how often its process was gone is counted."""
    lost[job.name] += code == GONE
    if losses is None:
        return False
    return code == EXIT_PREEMPTED or (code == GONE and lost[job.name] <= losses)


def _apart(
    waiting: Sequence[Job], running: Sequence[Job], stages: Mapping[str, Sequence[Path]], most: int
) -> list[Job]:
    """The jobs that may begin: none lacks a stage that another one is making."""

    def missing(job: Job) -> set[Path]:
        return {path for path in stages[job.name] if not (path / "DONE.json").is_file()}

    busy = set().union(*map(missing, running))
    chosen: list[Job] = []
    for job in waiting:
        if len(running) + len(chosen) >= most:
            break
        if not busy & missing(job):
            chosen.append(job)
            busy |= missing(job)
    return chosen


@dataclass(frozen=True)
class _Process:
    job: Job
    process: subprocess.Popen[bytes]

    def ended(self) -> int | None:
        if self.process.poll() is not None:
            self.process.communicate()
        return self.process.returncode


@dataclass(frozen=True)
class _Here:
    folder: Path
    threads: int
    terms: Terms

    def start(self, jobs: Sequence[Job]) -> list[_Process]:
        options = self.terms.options()
        return [_Process(job, _start(job, self.folder, self.threads, *options)) for job in jobs]

    def stop(self, tasks: Sequence[_Process]) -> None:
        for task in tasks:
            task.process.terminate()


def run_all(
    jobs: Sequence[Job],
    folder: Path,
    engine: Engine,
    *,
    title: str = "",
    told: Callable[[Job], str] = lambda job: "done",
    say: Callable[[str], None],
    stop_requested: Callable[[], str],
) -> dict[str, str]:
    """The jobs that failed, by name, with the last line that each wrote; of the others every stage is done.

    What is done before is not run again. `told` is what to say of a job that has ended well. Raises
    Interrupted when a stop was asked for.
    """
    left = [job for job in jobs if not all(stage.done for stage in plan(job.recipe, folder))]
    ended, failed = len(jobs) - len(left), {}
    say(f"{title}{counted(len(jobs), 'run')}, {ended} done before")
    for job, code in engine.run(left, folder):
        if code in (EXIT_PREEMPTED, -signal.SIGTERM):  # It was asked to stop, and has saved everything.
            continue
        ended += 1
        if code:
            failed[job.name] = _last_line(folder, job)
        said = f"failed: {failed[job.name]}" if code else told(job)
        say(f"  [{ended}/{len(jobs)}] {job.name}: {said}")
    if stop_requested():
        raise Interrupted(ended, stop_requested())
    return failed


def log_of(folder: Path, job: Job) -> Path:
    """Where a job's output goes."""
    return folder / "logs" / f"{job.name}.log"


def note(folder: Path, job: Job, line: str) -> None:
    """Nothing; the line is the last of the job's log."""
    with log_of(folder, job).open("a", encoding="utf-8") as log:
        log.write(f"{line}\n")


def _last_line(folder: Path, job: Job) -> str:
    lines = log_of(folder, job).read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def write_job(job: Job, folder: Path) -> Path:
    """The file that a job's process reads; its log is there too, and may be empty."""
    recipe = folder / "jobs" / f"{job.name}.yaml"
    for path in (recipe, log_of(folder, job)):
        disk.make_folder(path.parent)
    stages = {name: dict(given) for name, given in job.recipe.stages.items()}
    said = {"name": job.name, "seed": job.seed, "world": job.recipe.world, "stages": stages}
    disk.write(recipe, dump_yaml(said))
    log_of(folder, job).touch()
    return recipe


def _start(job: Job, folder: Path, threads: int, *options: str) -> subprocess.Popen[bytes]:
    return launch(write_job(job, folder), folder, log_of(folder, job), threads, *options)


def launch(recipe: Path, folder: Path, log: Path, threads: int, *options: str) -> subprocess.Popen[bytes]:
    """A job's process, which ends when this one does, however that comes."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
    }
    with log.open("ab") as output:
        mark(output.fileno())  # `watch` sees by it whether the job is at work
        return subprocess.Popen(
            [sys.executable, "-m", "trueup.comparison.job", str(recipe), str(folder), LED, *options],
            stdin=subprocess.PIPE,  # It ends with this process.
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
