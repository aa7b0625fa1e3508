"""Groups and batches written by hand, for tests that do the arithmetic on paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from trueup.engine.batch import Batch, Outputs
from trueup.engine.groups import Comparison, Completion, Group, Ranking
from trueup.engine.method import Handles, Objective, Terms
from trueup.engine.packing import pack


def group(
    *completions: Mapping[str, Sequence[float]] | int,
    comparisons: Sequence[Comparison] = (),
    rankings: Sequence[Ranking] = (),
    marks: Sequence[Mapping[str, float]] = (),
    finished: Sequence[bool] = (),
) -> Group:
    """A group of completions, each given by its length or by its per-token columns (of one length)."""
    made = []
    for i, given in enumerate(completions):
        columns = {} if isinstance(given, int) else {n: np.asarray(v, np.float64) for n, v in given.items()}
        length = given if isinstance(given, int) else len(next(iter(columns.values())))
        made.append(
            Completion(
                text=str(i),
                tokens=np.arange(1, length + 1, dtype=np.int32),
                columns=columns,
                marks=dict(marks[i]) if marks else {},
                finished=finished[i] if finished else True,
            )
        )
    return Group(
        prompt=(),
        prompt_tokens=np.array([0], np.int32),
        completions=tuple(made),
        comparisons=tuple(comparisons),
        rankings=tuple(rankings),
    )


FIRST_WINS = (Comparison(a=0, b=1, choice="a"),)


def tensor(*values: float, grad: bool = False) -> Tensor:
    """A float64 vector."""
    return torch.tensor(values, dtype=torch.float64, requires_grad=grad)


def batch(*groups: Group) -> Batch:
    """The groups packed, in float64."""
    return pack(groups).to("cpu", torch.float64)


def mean_loss(terms: Terms, packed: Batch) -> Tensor:
    """The weighted losses, each divided by the count of its unit."""
    shares = [w * entries.values.sum() / packed.count(entries.unit) for w, entries in terms.losses.values()]
    return torch.stack(shares).sum()


def loss(objective: Objective, packed: Batch, **outputs: Tensor) -> Tensor:
    """The objective's loss on a batch for the outputs given."""
    return mean_loss(objective(Outputs(**outputs), packed), packed)


def handles(**parts: object) -> tuple[Handles, dict[str, float]]:
    """Handles without networks, and the numbers that stages record."""
    noted: dict[str, float] = {}
    return Handles(networks={}, record=noted.update, **parts), noted  # pyright: ignore[reportArgumentType]


def column(groups: Sequence[Group], name: str) -> list[list[float]]:
    """One column of every completion, flattened over groups."""
    return [c.columns[name].tolist() for g in groups for c in g.completions]
