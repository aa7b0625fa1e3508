"""Runs jobs: processes on this machine, behind an interface that a cluster's scheduler can serve too."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

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


class Engine(Protocol):
    """Runs jobs and says how each ended, in the order in which they end."""

    def run(self, jobs: Sequence[Job], folder: Path) -> Iterator[tuple[Job, int]]:
        """Each job with its exit code, 0 is done. No two jobs that lack the same stage run at once."""
        ...


@dataclass(frozen=True)
class LocalProcesses:
    """Up to `workers` processes at once, each on its share of the cores; output goes to `logs/JOB.log`."""

    workers: int
    stop_requested: Callable[[], str] = lambda: ""
    terms: Terms = STRICT
    "On which a stage that was left on the way may go on."

    def run(self, jobs: Sequence[Job], folder: Path) -> Iterator[tuple[Job, int]]:
        """Each job with its exit code. When a stop is asked for, running jobs save, and none is started.

        A job whose missing stages another one is working on waits for it, and finds them done.
        """
        waiting = list(jobs)
        stages = {job.name: [stage.folder for stage in plan(job.recipe, folder)] for job in jobs}

        def missing(job: Job) -> set[Path]:
            return {path for path in stages[job.name] if not (path / "DONE.json").is_file()}

        running: dict[subprocess.Popen[bytes], Job] = {}
        threads = max(1, (os.cpu_count() or 1) // self.workers)
        try:
            while waiting or running:
                if self.stop_requested():
                    waiting.clear()
                    for process in running:
                        process.send_signal(signal.SIGTERM)
                while len(running) < self.workers:
                    busy = set().union(*map(missing, running.values()))
                    job = next((job for job in waiting if not busy & missing(job)), None)
                    if job is None:
                        break
                    waiting.remove(job)
                    running[_start(job, folder, threads, *self.terms.options())] = job
                for process in [p for p in running if p.poll() is not None]:
                    process.communicate()
                    yield running.pop(process), process.returncode
                time.sleep(POLL_SECONDS)
        finally:
            for process in running:
                process.terminate()
            for process in running:
                process.communicate()


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


def _last_line(folder: Path, job: Job) -> str:
    log = folder / "logs" / f"{job.name}.log"
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def _start(job: Job, folder: Path, threads: int, *options: str) -> subprocess.Popen[bytes]:
    recipe = folder / "jobs" / f"{job.name}.yaml"
    log = folder / "logs" / f"{job.name}.log"
    for path in (recipe, log):
        disk.make_folder(path.parent)
    stages = {name: dict(given) for name, given in job.recipe.stages.items()}
    said = {"name": job.name, "seed": job.seed, "world": job.recipe.world, "stages": stages}
    disk.write(recipe, dump_yaml(said))
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
            stdin=subprocess.PIPE,  # It ends when this process does, however that comes.
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
