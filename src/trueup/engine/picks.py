"""Which states of a row predict something, worked out on the host when the row is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Picks:
    """The states that predict supervised tokens, each once, and what they predict: `at` is rows[owner].

    Shapes: R different states, T supervised tokens.
    """

    rows: Int[Tensor, " R"]
    owner: Int[Tensor, " T"]
    order: Int[Tensor, " T"]
    "The tokens sorted by what predicts them."
    bounds: Sequence[int]
    "State r predicts `order[bounds[r] : bounds[r + 1]]`: known to the host, which cuts by it."

    def to(self, device: torch.device | str) -> Picks:
        """The same on a device."""
        rows, owner, order = (x.to(device) for x in (self.rows, self.owner, self.order))
        return Picks(rows=rows, owner=owner, order=order, bounds=self.bounds)


def picks_of(at: np.ndarray) -> Picks:
    """The picks of the rows that predict each token [T], on the CPU."""
    rows, owner = np.unique(at, return_inverse=True)
    counts = np.bincount(owner, minlength=len(rows))
    return Picks(
        rows=torch.from_numpy(rows),
        owner=torch.from_numpy(owner),
        order=torch.from_numpy(np.argsort(owner, kind="stable")),
        bounds=[0, *np.cumsum(counts).tolist()],
    )
