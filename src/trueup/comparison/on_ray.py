"""Jobs as tasks of a Ray cluster, each of which holds a process like those of `LocalProcesses`."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from trueup.comparison.cluster import Cluster
from trueup.comparison.engine import GONE, POLL_SECONDS, launch, log_of, note, spread, threads_each, write_job
from trueup.comparison.plan import Job
from trueup.errors import EXIT_PREEMPTED, TrueupError
from trueup.runs.unchanged import STRICT, Terms

LOCAL = "local"
LOSSES = 3
"How often a job is begun again whose worker has died."


@dataclass(frozen=True)
class OnRay:
    """Up to `workers` tasks of Ray at once, each of which runs a job as a process of its own.

    Ray's workers need this package, the folder under the same path, and the files that settings name.
    """

    workers: int
    stop_requested: Callable[[], str] = lambda: ""
    terms: Terms = STRICT
    cluster: Cluster = field(default_factory=lambda: Cluster(kind="ray", address=LOCAL))

    def run(self, jobs: Sequence[Job], folder: Path) -> Iterator[tuple[Job, int]]:
        """Each job with its exit code. At a stop running jobs save. E787 without a cluster."""
        if not jobs:
            return
        with _connected(self.cluster, self.workers) as ray:
            place = _Workers(ray, folder.resolve(), self._asked_for(ray), self._threads(), self.terms)
            yield from spread(
                jobs,
                folder,
                place,
                most=self.workers,
                stop_requested=self.stop_requested,
                losses=LOSSES,
            )

    def _asked_for(self, ray: Any) -> dict[str, float]:
        """A core and a GPU, where nothing else is said; on this machine a share of its GPUs."""
        there = ray.cluster_resources().get("GPU", 0)
        share = min(1.0, there / self.workers if self.cluster.address == LOCAL else there)
        cpus, gpus = self.cluster.cpus, self.cluster.gpus
        return {"num_cpus": 1 if cpus is None else cpus, "num_gpus": share if gpus is None else gpus}

    def _threads(self) -> int:
        if self.cluster.address == LOCAL:
            return threads_each(self.workers)
        return max(1, int(self.cluster.cpus or 1))


def run_job(recipe: str, folder: str, log: str, at: str, threads: int, options: Sequence[str]) -> int:
    """The exit code of a job's process, which a worker of Ray's starts and waits for in the folder `at`."""
    os.chdir(at)
    process = launch(Path(recipe), Path(folder), Path(log), threads, *options)
    try:
        # Ray has a task know that it is cancelled by an interrupt, which does not wake `process.wait()`.
        while process.poll() is None:
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
    process.communicate()
    return process.returncode


@dataclass(frozen=True)
class _Task:
    job: Job
    workers: _Workers
    handle: Any

    def ended(self) -> int | None:
        ray = self.workers.ray
        if not ray.wait([self.handle], timeout=0)[0]:
            return None
        try:
            return ray.get(self.handle)
        except ray.exceptions.TaskCancelledError:
            return EXIT_PREEMPTED
        except ray.exceptions.RayTaskError as error:  # ours, on a worker: no package there, no folder
            raise _unreachable(f"a worker cannot run jobs: {error.cause}", self.job.name) from None
        except ray.exceptions.RayError as error:
            note(self.workers.folder, self.job, f"Ray's worker is gone: {type(error).__name__}")
            return GONE


@dataclass(frozen=True)
class _Workers:
    ray: Any
    folder: Path
    asked_for: dict[str, float]
    threads: int
    terms: Terms

    def start(self, jobs: Sequence[Job]) -> list[_Task]:
        # A retry of Ray's own would be one that nobody here counts.
        remote = self.ray.remote(max_retries=0, **self.asked_for)(run_job)
        found: list[_Task] = []
        for job in jobs:
            recipe, log = write_job(job, self.folder), log_of(self.folder, job)
            words = (str(recipe), str(self.folder), str(log), os.getcwd(), self.threads, self.terms.options())
            found.append(_Task(job, self, remote.remote(*words)))
        return found

    def stop(self, tasks: Sequence[_Task]) -> None:
        for task in tasks:
            self.ray.cancel(task.handle)


@contextmanager
def _connected(cluster: Cluster, workers: int) -> Iterator[Any]:
    """Ray, connected to the cluster; a local one has a slot for each worker, and ends with this process."""
    # Set before the import: a cluster that is started here would report its use to its makers.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray: Any = import_module("ray")
    except ImportError:
        raise TrueupError(
            "E787",
            "Ray is not installed",
            where=f"--cluster ray:{cluster.address}",
            remedy="pip install 'trueup[ray]', or leave --cluster out",
        ) from None
    local = cluster.address == LOCAL
    slots = math.ceil(workers * (1 if cluster.cpus is None else cluster.cpus))
    where = {"num_cpus": slots, "include_dashboard": False} if local else {"address": cluster.address}
    try:
        ray.init(**where, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise _unreachable(f"no cluster answers: {reason}", f"--cluster ray:{cluster.address}") from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _unreachable(reason: str, where: str) -> TrueupError:
    remedy = "see to it that `ray status` answers and that its workers have trueup; or --cluster ray:local"
    return TrueupError("E787", reason, where=where, remedy=remedy)
