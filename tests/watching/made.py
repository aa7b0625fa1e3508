"""Folders of runs as training leaves them on its way, with numbers that are made up."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Nothing; the rows stand at the file's end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def run(folder: Path, steps: int = 8, *, of: int = 20, loop: str = "{batch: 4}", **more: float) -> Path:
    """The folder of a run that has made some steps of so many."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.resolved.yaml").write_text(f"method: grpo\nloop: {loop}\n")
    (folder / "data.json").write_text(json.dumps({"rows_in": 9, "train": 6, "quarantined": 3, "steps": of}))
    (folder / ".lock").touch()
    step(folder, range(1, steps + 1), **more)
    return folder


def step(folder: Path, numbers: Iterable[int], **more: float) -> None:
    """Nothing; the run has made these steps, of 2 s each."""
    for n in numbers:
        lines(
            folder / "metrics.jsonl", [{"step": n, "phase": "train", "loss": 1 / n, "score": n / 10, **more}]
        )
        spent = {"tokens_trained": 10 * n, "tokens_sampled": 20 * n, "seconds": 2.0 * n, "peak_mib": 5.0}
        lines(folder / "timings.jsonl", [{"step": n, "step_seconds": 2.0, **spent}])
