"""Jobs as tasks of Slurm's array jobs: submitted from here, found ended by the files that they leave.

Of a scheduler nothing is believed but that a task is in its queue. How a task ended is in the file that its
process writes last; one that left the queue without has died, and is submitted again. The commands and their
options are those of the manual pages of sbatch, squeue, scancel and sacct (Slurm 20.11 and later).
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trueup.comparison.engine import GONE, note, spread, write_job
from trueup.comparison.job import ENDED_IN
from trueup.comparison.plan import Job
from trueup.engine import disk
from trueup.errors import EXIT_PREEMPTED, TrueupError
from trueup.runs.unchanged import STRICT, Terms

SCRIPT = """\
#!/bin/bash
#SBATCH --job-name=trueup
#SBATCH --no-requeue
#SBATCH --signal=B:TERM@120
names=({names})
name=${{names[$SLURM_ARRAY_TASK_ID]}}
export OMP_NUM_THREADS=${{SLURM_CPUS_PER_TASK:-1}} MKL_NUM_THREADS=${{SLURM_CPUS_PER_TASK:-1}}
export TOKENIZERS_PARALLELISM=false
exec {python} -m trueup.comparison.job {folder}/jobs/"$name".yaml {folder} {ended}"$name" {options} \\
    >> {folder}/logs/"$name".log 2>&1 < /dev/null
"""
"A task is the Python process itself, so that Slurm's warning of its end reaches who can save."
LOSSES = 3
"How often a job is submitted again whose task has died."


@dataclass(frozen=True)
class Slurm:
    """Up to `workers` tasks in the queue at once; `options` are for `sbatch`, before our own files."""

    workers: int
    stop_requested: Callable[[], str] = lambda: ""
    terms: Terms = STRICT
    options: tuple[str, ...] = ()
    look_every: float = 15.0
    "Seconds between two questions to `squeue`."
    patience: float = 60.0
    "Seconds that a file of another machine may take to be seen here."
    every: float = 2.0
    "Seconds between two looks for such files."

    def run(self, jobs: Sequence[Job], folder: Path) -> Iterator[tuple[Job, int]]:
        """Each job with its exit code. When a stop is asked for, running tasks save, and waiting ones leave.

        What is in the queue from before is waited for, not submitted twice. E786 where Slurm refuses.
        """
        place = _Queue(self, folder.resolve())
        return spread(
            jobs,
            folder,
            place,
            most=self.workers,
            stop_requested=self.stop_requested,
            losses=LOSSES,
            every=self.every,
        )


@dataclass(frozen=True)
class _Task:
    job: Job
    queue: _Queue
    number: str
    "As `squeue` says it: the array's number, `_`, the task's."
    ending: Path

    def ended(self) -> int | None:
        if self.ending.is_file():
            return int(self.ending.read_text(encoding="utf-8"))
        if not self.queue.is_gone(self.number):
            return None
        if self.queue.stopping:
            return EXIT_PREEMPTED
        said = self.queue.state_of(self.number)
        note(self.queue.folder, self.job, f"Slurm's task {self.number} is gone{said}")
        return GONE


@dataclass
class _Queue:
    engine: Slurm
    folder: Path
    stopping: bool = False
    seen: set[str] | None = None
    "Who was in the queue at the last look that had an answer."
    looked: float = -1e9
    absent: dict[str, float] = field(default_factory=dict)
    "Since when a task is not."

    def start(self, jobs: Sequence[Job]) -> list[_Task]:
        """A task for each job: the one that is in the queue already, or one of a new array."""
        found = [task for job in jobs if (task := self._submitted_before(job)) is not None]
        new = [job for job in jobs if job.name not in {task.job.name for task in found}]
        return found + (self._submit(new) if new else [])

    def stop(self, tasks: Sequence[_Task]) -> None:
        """Nothing; tasks that wait are out of the queue, those that run were told to save."""
        self.stopping = True
        numbers = [task.number for task in tasks]
        if numbers:
            _ask("scancel", "--state=PENDING", *numbers)
            _ask("scancel", "--signal=TERM", "--batch", *numbers)
            self.looked = -1e9

    def is_gone(self, number: str) -> bool:
        """Whether a task is not in the queue, and for so long that its last file would be seen."""
        now = time.monotonic()
        if now - self.looked >= self.engine.look_every:
            self.looked, said = now, _ask("squeue", "--me", "--noheader", "--array", "--format=%F_%K")
            self.seen = None if said is None else set(said.split())
        if self.seen is None or number in self.seen:
            self.absent.pop(number, None)
            return False
        since = self.absent.setdefault(number, self.looked)
        return self.stopping or now - since >= self.engine.patience

    def state_of(self, number: str) -> str:
        """What the accounting says of a task that is gone: `: OUT_OF_MEMORY`; empty without accounting."""
        said = _ask(
            "sacct", "--noheader", "--parsable2", "--allocations", "--format=State", f"--jobs={number}"
        )
        return f": {said.split()[0]}" if said and said.split() else ""

    def _record(self, job: Job) -> Path:
        return self.folder / "jobs" / f"{job.name}.slurm"

    def _submitted_before(self, job: Job) -> _Task | None:
        path = self._record(job)
        if not path.is_file():
            return None
        said = json.loads(path.read_text(encoding="utf-8"))
        task = _Task(job, self, said["task"], self.folder / said["ending"])
        if task.ending.is_file():
            return None
        self.is_gone(task.number)
        if self.seen is None:
            raise _refused("squeue does not say whether a task of before still runs", str(path))
        return task if task.number in self.seen else None

    def _submit(self, jobs: Sequence[Job]) -> list[_Task]:
        number = 1 + sum(1 for _ in (self.folder / "slurm").glob("*"))
        array = self.folder / "slurm" / f"{number:04d}"
        disk.make_folder(array)
        for job in jobs:
            write_job(job, self.folder)
        script = SCRIPT.format(
            names=shlex.join(job.name for job in jobs),
            python=shlex.quote(sys.executable),
            folder=shlex.quote(str(self.folder)),
            ended=shlex.quote(f"{ENDED_IN}{array}/"),
            options=shlex.join(self.engine.terms.options()),
        )
        disk.write(array / "job.sh", script)
        output = f"--output={str(array).replace('%', '%%')}/%a.out"
        array_option = f"--array=0-{len(jobs) - 1}"
        command = ["sbatch", "--parsable", output, *self.engine.options, array_option, str(array / "job.sh")]
        said = _submitted(command)
        made = [_Task(job, self, f"{said}_{at}", array / job.name) for at, job in enumerate(jobs)]
        for task in made:
            ending = str(task.ending.relative_to(self.folder))
            disk.write(self._record(task.job), json.dumps({"task": task.number, "ending": ending}))
        self.seen = None if self.seen is None else self.seen | {task.number for task in made}
        return made


def _submitted(command: Sequence[str]) -> str:
    """The number of the array that `sbatch` made."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        raise _refused("there is no sbatch on the PATH of this machine", "--cluster slurm") from None
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it gave no reason"])[-1]
        raise _refused(f"sbatch refuses: {reason}", shlex.join(command))
    return done.stdout.strip().partition(";")[0]


def _refused(reason: str, where: str) -> TrueupError:
    remedy = (
        "where sbatch works, type this again, with options that it takes: --cluster 'slurm:--partition=P'"
    )
    return TrueupError("E786", reason, where=where, remedy=remedy)


def _ask(*command: str) -> str | None:
    """What a command of Slurm's prints; None where it fails, as it does while its controller restarts."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if done.returncode else done.stdout
