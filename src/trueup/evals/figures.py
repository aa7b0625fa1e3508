"""Figures of the LM evaluation harness's own tasks, paired by its record of every item.

The harness reports a mean and, where it logs samples, each item's own value. Where the figure is the mean of
those values, two models are compared item by item as they are on tasks of ours; other figures (a perplexity
over all tokens, a mean over several tasks) stand side by side.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trueup.errors import TrueupError
from trueup.evals.scorecard import compared
from trueup.statistics.estimates import Estimate

Floats = NDArray[np.float64]
Sample = Mapping[str, Any]
"The harness's record of one item under one filter, and `tokens_cut`."


@dataclass(frozen=True, kw_only=True, eq=False)
class Figure:
    """One metric of one of the harness's own tasks."""

    task: str
    version: str
    metric: str
    value: float
    standard_error: float | None
    num_items: int
    sign: int = 1
    "−1 where a smaller value is the better one."
    values: Floats | None = None
    "Of each item, in the order of their numbers; None where the figure is no mean of them."
    items: tuple[str, ...] = ()
    "What tells the items apart from others: a hash of each."
    cut: int = 0
    "So many items were longer than the model's context."


def figures_of(found: Mapping[str, Any], samples: Mapping[str, Sequence[Sample]]) -> list[Figure]:
    """Every metric of every task in the harness's results."""
    figures = []
    for name, row in found["results"].items():
        for key, value in row.items():
            metric, _, filtered = key.partition(",")
            if not filtered or metric.endswith("_stderr") or not isinstance(value, int | float):
                continue
            error = row.get(f"{metric}_stderr,{filtered}")
            mine = [s for s in samples.get(name, ()) if s["filter"] == filtered and metric in s]
            better = found.get("higher_is_better", {}).get(name, {}).get(metric)
            figures.append(
                Figure(
                    task=name,
                    version=str(found["versions"].get(name, "")),
                    metric=metric if filtered == "none" else f"{metric} ({filtered})",
                    value=float(value),
                    standard_error=float(error) if isinstance(error, int | float) else None,
                    num_items=int(found["n-samples"].get(name, {}).get("effective", 0)),
                    sign=-1 if better is False else 1,
                    values=_values([sample[metric] for sample in mine], float(value)),
                    items=tuple(str(sample["doc_hash"]) for sample in mine),
                    cut=sum(sample["tokens_cut"] > 0 for sample in mine),
                )
            )
    return figures


def _values(found: Sequence[Any], mean: float) -> Floats | None:
    if not found or not all(isinstance(value, bool | int | float | np.number) for value in found):
        return None
    values = np.array([float(value) for value in found])
    return values if math.isclose(float(values.mean()), mean, rel_tol=1e-6, abs_tol=1e-9) else None


def figure_rows(
    figures: Sequence[Figure],
    against: Sequence[Figure] = (),
    *,
    context: int | None = None,
    against_context: int | None = None,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """The figures as rows of `eval.json`; with `against` paired by item where both have every item's value.

    Raises E826 where the two models were asked different items.
    """
    rows = []
    others = {(f.task, f.metric): f for f in against}
    for f in figures:
        other = others.get((f.task, f.metric))
        row: dict[str, Any] = {
            "task": f.task,
            "version": f.version,
            "metric": f.metric,
            "items": f.num_items,
            **_compared(f, other, seed),
            "chance": None,
            "also": {},
            "cut": {"items": f.cut, "context": context},
        }
        if other is not None:
            row["against_cut"] = {"items": other.cut, "context": against_context}
        rows.append(row)
    return rows


def _compared(figure: Figure, other: Figure | None, seed: int) -> dict[str, Any]:
    if other is not None and figure.items != other.items:
        reason, remedy = (
            "the two models were asked different items",
            "evaluate both on the same file and seed",
        )
        raise TrueupError("E826", reason, where=f"task {figure.task}", remedy=remedy)
    if figure.values is not None and (other is None or other.values is not None):
        values = None if other is None else other.values
        return compared(figure.values, values, ceiling=1.0, seed=seed, sign=figure.sign)
    row: dict[str, Any] = {"value": _estimate(figure).to_json()}
    return row if other is None else {**row, "against": _estimate(other).to_json(), "difference": None}


def _estimate(figure: Figure) -> Estimate:
    """m ± 1.96 s with the harness's own standard error; no interval where it gives none."""
    error = math.nan if figure.standard_error is None else figure.standard_error
    low, high = figure.value - 1.96 * error, figure.value + 1.96 * error
    return Estimate(mean=figure.value, low=low, high=high, n=figure.num_items, standard_error=error)


def figure_items(
    samples: Mapping[str, Sequence[Sample]], against: Mapping[str, Sequence[Sample]] = {}
) -> dict[str, list[dict[str, Any]]]:
    """A line for each item of each task and filter: its row, what was answered, its value by every metric."""
    found = {}
    for name, ours in samples.items():
        theirs = {(s["doc_id"], s["filter"]): s for s in against.get(name, ())}
        found[name] = []
        for sample in ours:
            line = {"item": sample["doc_id"], "filter": sample["filter"], "row": sample["doc"]}
            line |= {"target": sample["target"], **_said(sample)}
            other = theirs.get((sample["doc_id"], sample["filter"]))
            line |= {f"against_{key}": value for key, value in _said(other).items()} if other else {}
            found[name].append(line)
    return found


def _said(sample: Sample) -> dict[str, Any]:
    said: dict[str, Any] = {"answers": sample["filtered_resps"]}
    said["values"] = {metric: sample[metric] for metric in sample["metrics"]}
    return said | ({"tokens_cut": sample["tokens_cut"]} if sample["tokens_cut"] else {})
