"""Trackers: other places to which a run's metrics go, through small adapters.

`metrics.jsonl` in the run directory is always written and stays the record; a tracker only shows it. Its
package loads when it is asked for.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from trueup.errors import EXIT_UNAVAILABLE, TrueupError


class Tracker(Protocol):
    """Shows numbers somewhere. A resumed run may send a step again; the later numbers hold."""

    def log(self, step: int, metrics: Mapping[str, float], /) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, eq=False)
class _Calls:
    """A tracker made of two functions."""

    log: Callable[[int, Mapping[str, float]], None]
    close: Callable[[], None]


def start(name: str, run_dir: Path) -> Tracker:
    """The tracker of that name for a run. Raises `TrueupError`: E731 unknown name, E732 package missing."""
    if name not in TRACKERS:
        raise TrueupError(
            "E731",
            f"no tracker is called {name!r}; there are jsonl, {', '.join(sorted(TRACKERS))}",
            where="trackers",
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
            exit_code=EXIT_UNAVAILABLE,
        ) from None


def _tensorboard(run_dir: Path) -> Tracker:
    """TensorBoard event files in `run_dir/tensorboard`."""
    _package("tensorboard")
    writer = importlib.import_module("torch.utils.tensorboard").SummaryWriter(str(run_dir / "tensorboard"))

    def log(step: int, metrics: Mapping[str, float]) -> None:
        for key, value in metrics.items():
            writer.add_scalar(key, value, step)
        writer.flush()

    return _Calls(log, writer.close)


def _wandb(run_dir: Path) -> Tracker:
    """A Weights & Biases run with the directory's name, continued when the directory's run is."""
    wandb = _package("wandb")
    name = run_dir.resolve().name
    run = wandb.init(project="trueup", name=name, id=name, resume="allow", dir=str(run_dir))
    return _Calls(lambda step, metrics: run.log(dict(metrics), step=step), run.finish)


def _trackio(run_dir: Path) -> Tracker:
    """A Trackio run with the directory's name, kept on this machine."""
    trackio = _package("trackio")
    trackio.init(project="trueup", name=run_dir.resolve().name, resume="allow")
    return _Calls(lambda step, metrics: trackio.log(dict(metrics), step=step), trackio.finish)


def _mlflow(run_dir: Path) -> Tracker:
    """An MLflow run with the directory's name, where MLFLOW_TRACKING_URI says."""
    mlflow = _package("mlflow")
    mlflow.start_run(run_name=run_dir.resolve().name)

    def log(step: int, metrics: Mapping[str, float]) -> None:
        # Its stores differ in what they accept, and metrics.jsonl has the true value: only finite ones go.
        mlflow.log_metrics({k: v for k, v in metrics.items() if math.isfinite(v)}, step=step)

    return _Calls(log, mlflow.end_run)


TRACKERS: Mapping[str, Callable[[Path], Tracker]] = {
    "mlflow": _mlflow,
    "tensorboard": _tensorboard,
    "trackio": _trackio,
    "wandb": _wandb,
}
