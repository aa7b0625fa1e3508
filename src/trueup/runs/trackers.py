"""Trackers: other places to which a run's metrics go, through small adapters.

`metrics.jsonl` in the run directory is always written and stays the record; a tracker only shows it. Its
package loads when it is asked for.
"""

from __future__ import annotations

import hashlib
import importlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trueup.engine import disk
from trueup.errors import TrueupError


@dataclass(frozen=True, eq=False)
class Tracker:
    """Shows numbers somewhere. A resumed run may send a step again; the later numbers hold."""

    log: Callable[[int, Mapping[str, float]], None]
    close: Callable[[], None]


def start(name: str, run_dir: Path) -> Tracker:
    """The tracker of that name for a run. Raises `TrueupError`: E731 unknown name, E732 package missing."""
    if name not in TRACKERS:
        raise TrueupError(
            "E731",
            f"no tracker is called {name!r}; there are jsonl, {', '.join(sorted(TRACKERS))}",
            where="trackers",
            remedy="take one of these",
        )
    return TRACKERS[name](run_dir)


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise TrueupError(
            "E732",
            f"the tracker needs the package {name}, which is not installed",
            where="trackers",
            remedy=f"pip install {name}",
        ) from None


def _tensorboard(run_dir: Path) -> Tracker:
    """TensorBoard event files in `run_dir/tensorboard`."""
    _package("tensorboard")
    writer = importlib.import_module("torch.utils.tensorboard").SummaryWriter(str(run_dir / "tensorboard"))

    def log(step: int, metrics: Mapping[str, float]) -> None:
        for key, value in metrics.items():
            writer.add_scalar(key, value, step)
        writer.flush()

    return Tracker(log, writer.close)


def _wandb(run_dir: Path) -> Tracker:
    """A Weights & Biases run with the directory's name, continued when the directory's run is."""
    wandb = _package("wandb")
    run = wandb.init(
        project="trueup", name=run_dir.resolve().name, id=_id(run_dir), resume="allow", dir=str(run_dir)
    )
    return Tracker(lambda step, metrics: run.log(dict(metrics), step=step), run.finish)


def _trackio(run_dir: Path) -> Tracker:
    """A Trackio run, kept on this machine and continued when the directory's run is."""
    trackio = _package("trackio")
    trackio.init(project="trueup", name=_id(run_dir), resume="allow")
    return Tracker(lambda step, metrics: trackio.log(dict(metrics), step=step), trackio.finish)


def _mlflow(run_dir: Path) -> Tracker:
    """An MLflow run with the directory's name, where MLFLOW_TRACKING_URI says; continued by its noted id."""
    mlflow = _package("mlflow")
    note = run_dir / "mlflow_run_id.txt"
    if note.is_file():
        mlflow.start_run(run_id=note.read_text(encoding="utf-8").strip())
    else:
        run = mlflow.start_run(run_name=run_dir.resolve().name)
        disk.write(note, f"{run.info.run_id}\n")

    def log(step: int, metrics: Mapping[str, float]) -> None:
        # Its stores differ in what they accept, and metrics.jsonl has the true value: only finite ones go.
        mlflow.log_metrics({k: v for k, v in metrics.items() if math.isfinite(v)}, step=step)

    return Tracker(log, mlflow.end_run)


def _id(run_dir: Path) -> str:
    """A name that no other directory's run has: many runs have a stage called "sft"."""
    path = run_dir.resolve()
    return f"{path.name}-{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"


TRACKERS: Mapping[str, Callable[[Path], Tracker]] = {
    "mlflow": _mlflow,
    "tensorboard": _tensorboard,
    "trackio": _trackio,
    "wandb": _wandb,
}
