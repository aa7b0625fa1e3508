"""A stage that waits for a file `go` in its folder's parent; and another process that runs it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trueup.runs.recipe import Done, Stage


@dataclass(frozen=True, kw_only=True)
class Config:
    """Nothing to set."""

    seed: int = 0


def waiting_stage(run_dir: Path) -> Stage:
    """The stage, in a run's folder."""
    return Stage(
        name="waits",
        module=sys.modules[__name__],
        config=Config(),
        folder=run_dir / "stages" / "waits-0123456789",
        digest="0123456789",
        inputs=(),
    )


def run(config: Config, folder: Path, *, stop_requested: Callable[[], str]) -> Done:
    """What a procedure's module has: says that it has begun, and ends when it may."""
    (folder / "started").touch()
    while not (folder.parent / "go").exists():
        time.sleep(0.01)
    return Done(output="started")


def elsewhere(stage: Stage) -> subprocess.Popen[bytes]:
    """Another process, which has begun the stage."""
    code = (
        "import sys, pathlib, trueup.runs.recipe, waiting_stage;"
        "trueup.runs.recipe.run_stage(waiting_stage.waiting_stage(pathlib.Path(sys.argv[1])))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, stage.folder.parents[1]], cwd=Path(__file__).parent
    )
    while not (stage.folder / "started").exists():
        assert process.poll() is None
        time.sleep(0.01)
    return process
