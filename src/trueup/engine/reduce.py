"""From what an objective says of microbatches to the means of a minibatch, read from the device at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from trueup.engine.batch import Unit
from trueup.engine.method import Terms


class Sum(NamedTuple):
    """One number's sum over a microbatch, still on the device."""

    name: str
    total: Tensor
    entries: int
    "How many the whole minibatch has."
    weight: float | None
    "In the loss; None for a metric."


def sums_of(terms: Terms, counts: Mapping[Unit, int], scale: float) -> list[Sum]:
    """A microbatch's losses, weighed and times `scale`, and its metrics; `counts` are the minibatch's."""
    losses = [
        Sum(name, e.values.detach().sum(), max(1, counts[e.unit]), scale * weight)
        for name, (weight, e) in terms.losses.items()
    ]
    metrics = terms.metrics.items()
    return losses + [Sum(name, e.values.sum(), max(1, counts[e.unit]), None) for name, e in metrics]


def reduced(sums: Sequence[Sum]) -> dict[str, float]:
    """Every mean, and the `loss`: the host waits for the device here, once for all of a minibatch."""
    found: dict[int, float] = {}
    for dtype in {one.total.dtype for one in sums}:
        alike = {number: one.total for number, one in enumerate(sums) if one.total.dtype == dtype}
        found.update(zip(alike, torch.stack(list(alike.values())).tolist(), strict=True))
    metrics: dict[str, float] = {}
    for number, one in enumerate(sums):
        share = found[number] / one.entries
        if one.weight is None:
            metrics[one.name] = metrics.get(one.name, 0.0) + share
        else:
            metrics[f"loss/{one.name}"] = metrics.get(f"loss/{one.name}", 0.0) + share
            metrics["loss"] = metrics.get("loss", 0.0) + one.weight * share
    return metrics


def mean_metrics(noted: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Each key's mean over the records that hold it."""
    sums: dict[str, list[float]] = {}
    for record in noted:
        for name, value in record.items():
            sums.setdefault(name, []).append(value)
    return {name: sum(values) / len(values) for name, values in sums.items()}
