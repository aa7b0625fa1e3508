"""Whether battles determine ratings at all: the graph of who beat whom."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import NegativeCycleError, bellman_ford, connected_components

from trueup.errors import TrueupError

_SHOWN = 6
PRIOR_REMEDY = "add battles that link them, or give a prior: `--prior 0.1`"


def check_connected(
    a: NDArray[np.int64], b: NDArray[np.int64], win: NDArray[np.float64], names: Sequence[str]
) -> None:
    """Nothing, if finite maximum-likelihood ratings exist; TrueupError E421 if not, naming the models.

    Ford 1957: they exist, and are unique up to a shift, if and only if in every split of the models into two
    sets some model of each has beaten one of the other: the graph with an edge from winner to loser (both
    ways for a tie) is strongly connected.
    """
    size = len(names)
    winner = np.concatenate([a[win > 0], b[win < 1]])
    loser = np.concatenate([b[win > 0], a[win < 1]])
    beats = csr_array((np.ones(len(winner)), (winner, loser)), shape=(size, size))
    count, part = connected_components(beats, directed=True, connection="strong")
    part = np.asarray(part, np.int64)
    if count == 1:
        return
    islands, island = connected_components(beats, directed=False)
    island = np.asarray(island, np.int64)
    if islands > 1:
        here = _named([names[m] for m in np.flatnonzero(island == island[0]).tolist()])
        there = _named([names[m] for m in np.flatnonzero(island != island[0]).tolist()])
        raise TrueupError("E421", f"no battle links {here} with {there}", remedy=PRIOR_REMEDY)
    # Among the parts of a graph without cycles between them, one has no edge into it: nobody outside beat it.
    beaten = {int(part[low]) for high, low in zip(winner, loser, strict=True) if part[high] != part[low]}
    top = next(p for p in range(count) if p not in beaten)
    best = _named([names[m] for m in np.flatnonzero(part == top).tolist()])
    reason = f"{best} never lost to or tied with any of the others: the ratings have no finite maximum"
    raise TrueupError("E421", reason, remedy=PRIOR_REMEDY)


def check_ties_bounded(
    a: NDArray[np.int64], b: NDArray[np.int64], win: NDArray[np.float64], size: int
) -> None:
    """Nothing, if a strongly connected graph also bounds how frequent ties are; TrueupError E422 if not.

    Under both tie models the likelihood never falls along a direction (δ, e), e > 0, in which a win has
    δ_winner - δ_loser ≥ e and a tie |δ_a - δ_b| ≤ e. Such differences exist if and only if the graph with
    length -1 from loser to winner and 1 both ways for a tie has no cycle of negative length. Example: one
    model only won and tied against the other; Davidson's ν = t/√(w₁ w₂) is then infinite.
    """
    length = np.full((size, size), np.inf)
    tied = (win > 0) & (win < 1)
    for one, other in ((a, b), (b, a)):
        length[one[tied], other[tied]] = 1.0
    length[b[win == 1], a[win == 1]] = -1.0
    length[a[win == 0], b[win == 0]] = -1.0
    edge = np.isfinite(length)
    graph = csr_array((length[edge], np.nonzero(edge)), shape=(size, size))
    try:
        bellman_ford(graph, directed=True)
    except NegativeCycleError:
        return
    reason = "no winner was ever beaten in turn: ties alone may carry all doubt, and have no finite measure"
    raise TrueupError("E422", reason, remedy="use --ties half, or give a prior: `--prior 0.1`")


def _named(names: list[str]) -> str:
    shown = ", ".join(sorted(names)[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"
