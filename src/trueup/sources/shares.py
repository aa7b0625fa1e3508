"""Several sources of groups, each seen as often as its weight says."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from trueup.engine.groups import Group
from trueup.engine.method import Handles, Source
from trueup.engine.order import permutation, span
from trueup.engine.views import chained, picked
from trueup.errors import TrueupError
from trueup.sources.files import Files

GOLDEN = (5**0.5 - 1) / 2


def by_share(
    groups: Sequence[Group], batch: int, *, power: float = 1.0, written: frozenset[str] = frozenset()
) -> Source:
    """A source of the groups in which each `Group.source` is drawn ∝ (its number of groups)^power.

    Power 1 is the plain walk over all rows, 0 gives every source the same share.
    """
    by_source = {} if power == 1 else grouped(groups)
    if len(by_source) < 2:
        return Files(groups=groups, batch=batch, written=written)
    weights = {name: len(part) ** power for name, part in by_source.items()}
    return Shares(parts=by_source, weights=weights, batch=batch, written=written)


def grouped(groups: Sequence[Group]) -> dict[str, Sequence[Group]]:
    """The groups by their `source`, in order of first appearance."""
    found: dict[str, array[int]] = {}
    for place, group in enumerate(groups):
        found.setdefault(group.source, array("q")).append(place)
    return {name: picked(groups, places) for name, places in found.items()}


@dataclass(frozen=True, kw_only=True, eq=False)
class Shares:
    """Yields `batch` groups a step, drawn from each source in proportion to its weight.

    Place c of the run belongs to the source into whose share frac((c + ½) φ) falls, φ the golden ratio's
    fraction: after any number of places each source has had its share to within a few groups. Inside a source
    the walk is over fresh permutations of it, so that every row is seen once before any is seen again.
    """

    parts: Mapping[str, Sequence[Group]]
    weights: Mapping[str, float]
    "By source, ≥ 0, not all 0; they need not sum to 1."
    batch: int
    written: frozenset[str] = field(default=frozenset())

    def __post_init__(self) -> None:
        """Raises E716 for weights that give no share to anything, E604 for a source without rows."""
        if min(self.weights.values()) < 0 or not sum(self.weights.values()) > 0:
            raise TrueupError("E716", "weights are at least 0, one above", where="mix", remedy="repair them")
        empty = [name for name, weight in self.weights.items() if weight and not self.parts.get(name)]
        if empty:
            raise TrueupError(
                "E604",
                "no row that this method can learn from",
                where=f"mix {empty[0]}",
                remedy="leave it out",
            )

    @property
    def writes(self) -> frozenset[str]:
        """What the groups carry."""
        return self.written

    @property
    def groups(self) -> Sequence[Group]:
        """All groups of all sources: what an epoch's length is counted by."""
        return chained(list(self.parts.values()))

    def __call__(self, step: int, handles: Handles) -> list[Group]:
        """The groups of step `step`."""
        names = list(self.weights)
        edges = np.cumsum(list(self.weights.values())) / sum(self.weights.values())
        here = span(len(self.groups), self.batch, step, handles.epochs)
        places = (np.arange(here.stop) + 0.5) * GOLDEN % 1.0
        owner = np.minimum(np.searchsorted(edges, places, side="right"), len(names) - 1)
        seen = np.bincount(owner[: here.start], minlength=len(names))
        out = []
        for number in owner[here.start :]:
            part = self.parts[names[number]]
            epoch, offset = divmod(int(seen[number]), len(part))
            order = permutation(len(part), handles.seed, "mixture", names[number], epoch)
            out.append(part[int(order[offset])])
            seen[number] += 1
        return out
