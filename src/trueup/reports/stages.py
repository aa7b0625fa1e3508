"""The stages of a run directory: learning curves, settings and costs. The one place that knows the layout.

RUN/recipe.resolved.yaml               the settings of every stage, in order
RUN/stages/NAME-DIGEST/                config.resolved.yaml  metrics.jsonl  timings.jsonl  held_out.json
                                       measured.json, of a stage that measured a policy
                                       DONE.json, what a finished stage handed on
RUN/metrics.jsonl ...                  a single training run is its own only stage
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trueup.engine import lines
from trueup.reports.checked import COST_FIELDS, Interval, as_intervals, as_object, load_json
from trueup.settings.strict_yaml import read_yaml

Points = list[tuple[float, float]]
_DIGEST = re.compile(r"-[0-9a-f]{10}$")


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRecord:
    """What one stage left behind; empty where it left nothing."""

    name: str
    curves: Mapping[str, Points] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    cost: Mapping[str, float] = field(default_factory=dict)
    held_out: Mapping[str, Interval] = field(default_factory=dict)
    "Metrics of the finished model over groups that it was not trained on."
    measured: Mapping[str, float] = field(default_factory=dict)
    "Means over prompts, of a stage that measured a policy."
    procedure: str = ""
    "What it ran, if that trained nothing."
    found: Mapping[str, float] = field(default_factory=dict)
    "What a procedure counted and measured, but for policies."
    folder: Path | None = None


def read_stages(run_dir: Path) -> list[StageRecord]:
    """The run's stages in the recipe's order.

    A stage that was redone with other settings has several folders; the one the recipe's settings belong to
    is read, the newest if there are several of those. Raises TrueupError on a damaged file.
    """
    recipe = _yaml(run_dir / "recipe.resolved.yaml")
    if not (run_dir / "stages").is_dir():
        name = _DIGEST.sub("", run_dir.resolve().name)
        return [_read(run_dir, name)] if (run_dir / lines.METRICS).is_file() else []
    folders: dict[str, list[Path]] = {}
    for folder in sorted(path for path in (run_dir / "stages").iterdir() if path.is_dir()):
        folders.setdefault(_DIGEST.sub("", folder.name), []).append(folder)
    names = [name for name in recipe if name in folders] if recipe else list(folders)
    return [_read(_current(folders[name], recipe.get(name)), name) for name in names]


def series(rows: Sequence[Mapping[str, Any]]) -> dict[str, Points]:
    """Each metric's (step, value) points in order of step; values may be non-finite.

    A row is {"step", "phase", metric: value ...} or holds its metrics under "metrics". A phase other than
    "train" becomes part of the metric's name.
    """
    found: dict[str, Points] = {}
    for number, row in enumerate(rows):
        step, phase, nested = row.get("step", number), row.get("phase") or "train", row.get("metrics")
        for name, value in lines.from_words(nested if isinstance(nested, Mapping) else row).items():
            if name not in ("step", "phase") and _is_real(value) and _is_real(step):
                label = str(name) if phase == "train" else f"{phase}/{name}"
                found.setdefault(label, []).append((float(step), float(value)))
    return {name: sorted(points, key=lambda point: point[0]) for name, points in found.items()}


def _read(folder: Path, name: str) -> StageRecord:
    timings = lines.read(folder / lines.TIMINGS)
    last = timings[-1] if timings else {}
    settings = _yaml(folder / "config.resolved.yaml")
    procedure = "" if "loop" in settings else str(settings.get("method", ""))
    measured = (folder / "measured.json").is_file()
    numbers = _handed_on(folder / "DONE.json") if procedure or measured else {}
    return StageRecord(
        name=name,
        curves={} if numbers else series(lines.read(folder / lines.METRICS)),
        settings=settings,
        cost={key: float(last[key]) for key in COST_FIELDS if _is_real(last.get(key))},
        held_out=as_intervals(load_json(folder / "held_out.json"), "held_out.json"),
        measured=numbers if measured else {},
        procedure=procedure,
        found={} if measured or procedure == "evaluate" else numbers,
        folder=folder,
    )


def _handed_on(path: Path) -> dict[str, float]:
    metrics = as_object(as_object(load_json(path), path.name).get("metrics"), f"{path.name} metrics")
    return {str(name): float(value) for name, value in metrics.items() if _is_real(value)}


def _current(folders: Sequence[Path], settings: Any) -> Path:
    if len(folders) == 1:
        return folders[0]
    same = [folder for folder in folders if _yaml(folder / "config.resolved.yaml") == settings]
    return max(same or folders, key=lambda folder: folder.stat().st_mtime)


def _yaml(path: Path) -> Mapping[str, Any]:
    return read_yaml(path).values if path.is_file() else {}


def _is_real(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
