"""Evaluation from start to end: open the model, sit the tasks, and put the figures into one document."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from trueup.errors import TrueupError
from trueup.evals.lm_eval import Figure, Harness
from trueup.evals.scorecard import (
    NO_SHOTS,
    Examine,
    Paper,
    Result,
    Shots,
    examiner,
    item_rows,
    papers,
    row_of,
    sit,
)
from trueup.evals.statistics import Estimate
from trueup.evals.task_files import shipped
from trueup.evals.view import PolicyView
from trueup.lab.world import Split
from trueup.method import Role
from trueup.opening import open_chat, open_network, pick_device
from trueup.settings import ModelSettings

Dtype = Literal["float32", "bfloat16", "float64"]
_PACKAGES = ("trueup", "torch", "transformers")


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """The figures as `eval.json` holds them, and the items behind each task."""

    document: dict[str, Any]
    items: dict[str, list[dict[str, Any]]]


def evaluate_on(
    model: str,
    names: Sequence[str] = (),
    *,
    data: Mapping[str, str] = {},
    against: str | None = None,
    split: Split = "test",
    limit: int | None = None,
    shots: Shots = NO_SHOTS,
    engine: Literal["trueup", "lm-eval"] = "trueup",
    include: Path | None = None,
    dtype: Dtype = "float32",
    seed: int = 0,
    watch: Callable[[str], None] = lambda task: None,
) -> Evaluated:
    """A model on tasks (the lab's exams where none is named), with `against` also what differs on each item.

    With the engine `lm-eval`, names of task files are our items scored by what the harness says about them,
    and other names, or all with `include`, are tasks of its own. `watch` is told each task before it begins.
    Raises what `papers` and the engines raise, E715 for `include` without the harness.
    """
    harness = engine == "lm-eval"
    ours, theirs = _whose(names, harness, include)
    sheets: dict[str, Paper] = {}
    if ours or not names:
        sheets = papers(ours, data=data, split=split, limit=limit, shots=shots, seed=seed)
    models = {"model": model_folder(model)} | ({"against": model_folder(against)} if against else {})
    sat: dict[str, dict[str, Result]] = {}
    figures: dict[str, list[Figure]] = {}
    for who, reference in models.items():
        run = _harness(reference, dtype) if harness else None
        examine = _through(run) if run else examiner(_view(who, reference, dtype))
        sat[who] = _sit_all(examine, sheets, seed, watch)
        if run and theirs:
            watch(", ".join(theirs))
            figures[who] = run.own_tasks(theirs, include, limit=limit)
    other = sat.get("against", {})
    rows = [row_of(found, other.get(name), seed) for name, found in sat["model"].items()]
    rows += _figure_rows(figures)
    lines = {name: item_rows(found, other.get(name)) for name, found in sat["model"].items()}
    document = {
        "model": model,
        "against": against,
        "engine": engine,
        "dtype": dtype,
        "seed": seed,
        "versions": {name: metadata.version(name) for name in (*_PACKAGES, *["lm-eval"] * harness)},
        "tasks": rows,
    }
    return Evaluated(document=document, items=lines)


def model_folder(reference: str) -> str:
    """The model that a path means: of a run's folder its `model/`."""
    inside = Path(reference) / "model"
    return str(inside) if (inside / "config.json").is_file() else reference


def _whose(names: Sequence[str], harness: bool, include: Path | None) -> tuple[list[str], list[str]]:
    """The names that are task files of ours, and those that the harness knows."""
    if include is not None and not harness:
        raise TrueupError("E715", "only lm-eval reads its own task files", remedy="add --engine lm-eval")
    if harness and not names:
        raise TrueupError("E713", "lm-eval has no tasks by default", where="tasks", remedy="name some")
    ours = [n for n in names if not harness or (include is None and _is_file(n))]
    return ours, [n for n in names if n not in ours]


def _is_file(name: str) -> bool:
    return name in shipped() or name.endswith((".yaml", ".yml"))


def _view(name: str, reference: str, dtype: Dtype) -> PolicyView:
    settings = ModelSettings(path=reference, dtype=dtype)
    device = pick_device("auto")
    network = open_network(Role(trained=False), settings, device, seed=0)
    return PolicyView(
        name=name,
        network=network,
        chat=open_chat(settings),
        context=network.config.max_position_embeddings,
        device=device,
    )


def _harness(reference: str, dtype: Dtype) -> Harness:
    return Harness.of(reference, dtype=dtype, device=str(pick_device("auto")))


def _through(harness: Harness) -> Examine:
    """How the harness examines: its log-probabilities, our scores."""

    def examine(task: Any, items: Any, seed: int) -> Any:
        evidence = harness.evidence(task, items)
        return task.score.values(evidence, items), evidence

    return examine


def _sit_all(
    examine: Examine, sheets: Mapping[str, Paper], seed: int, watch: Callable[[str], None]
) -> dict[str, Result]:
    found = {}
    for name, paper in sheets.items():
        watch(name)
        found[name] = sit(examine, paper, seed)
    return found


def _estimate(figure: Figure) -> Estimate:
    """m ± 1.96 s with the harness's own standard error; no interval where it gives none."""
    error = math.nan if figure.standard_error is None else figure.standard_error
    low, high = figure.value - 1.96 * error, figure.value + 1.96 * error
    return Estimate(mean=figure.value, low=low, high=high, n=figure.num_items, standard_error=error)


def _figure_rows(figures: Mapping[str, Sequence[Figure]]) -> list[dict[str, Any]]:
    """The harness's own figures; it tells no single items here, so two models stand side by side unpaired."""
    rows = []
    others = {(f.task, f.metric): f for f in figures.get("against", ())}
    for f in figures.get("model", ()):
        row = {
            "task": f.task,
            "version": f.version,
            "metric": f.metric,
            "items": f.num_items,
            "value": _estimate(f).to_json(),
            "chance": None,
            "also": {},
        }
        other = others.get((f.task, f.metric))
        if other is not None:
            row["against"] = _estimate(other).to_json()
            row["difference"] = None
        rows.append(row)
    return rows
