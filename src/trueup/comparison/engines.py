"""Which engine runs the jobs."""

from __future__ import annotations

from collections.abc import Callable

from trueup.comparison.cluster import Cluster
from trueup.comparison.engine import Engine, LocalProcesses
from trueup.comparison.on_ray import OnRay
from trueup.comparison.slurm import Slurm
from trueup.runs.unchanged import Terms


def engine_of(cluster: Cluster, workers: int, stop_requested: Callable[[], str], terms: Terms) -> Engine:
    """The engine that runs at most `workers` jobs at once, there."""
    if cluster.kind == "slurm":
        return Slurm(workers, stop_requested, terms, options=cluster.options)
    if cluster.kind == "ray":
        return OnRay(workers, stop_requested, terms, cluster=cluster)
    return LocalProcesses(workers, stop_requested, terms)
