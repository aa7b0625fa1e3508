"""Groups in order that need not be in memory: what lies on disk is made a group when it is asked for.

Each function here gives a list where it is given one, and otherwise a view that holds numbers alone, so that
whoever picks groups or changes them need not know where they lie.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import final, overload

import numpy as np

from trueup.engine.groups import Group


@final
@dataclass(frozen=True, slots=True, eq=False)
class View(Sequence[Group]):
    """Groups that are made at every access, the same ones each time."""

    size: int
    at: Callable[[int], Group]
    "The group at a place from 0 up."

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[Group]:
        return map(self.at, range(self.size))

    @overload
    def __getitem__(self, place: int) -> Group: ...

    @overload
    def __getitem__(self, place: slice) -> View: ...

    def __getitem__(self, place: int | slice) -> Group | View:
        if isinstance(place, slice):
            places = range(self.size)[place]
            return View(len(places), lambda i: self.at(places[i]))
        return self.at(range(self.size)[place])


def mapped(groups: Sequence[Group], change: Callable[[Group], Group]) -> Sequence[Group]:
    """Each group as `change` gives it."""
    if isinstance(groups, View):
        return View(len(groups), lambda i: change(groups.at(i)))
    return [change(group) for group in groups]


def flat(
    groups: Sequence[Group],
    make: Callable[[Group], Sequence[Group]],
    first: Callable[[Group], Sequence[Group]] | None = None,
) -> Sequence[Group]:
    """What `make` gives of each group, one after another: none, one, or several.

    Of a view every group is made once here, to count; `first` stands in for `make` then.
    """
    counted = first or make
    if not isinstance(groups, View):
        return [made for group in groups for made in counted(group)]
    counts = np.fromiter((len(counted(group)) for group in groups), np.int64, len(groups))
    places = np.repeat(np.arange(len(groups)), counts)
    turns = np.arange(len(places)) - np.repeat(np.cumsum(counts) - counts, counts)
    return View(len(places), lambda i: make(groups.at(int(places[i])))[int(turns[i])])


def where(groups: Sequence[Group], keep: Callable[[Group], object]) -> Sequence[Group]:
    """The groups that `keep` says yes to."""
    if not isinstance(groups, View):
        return [group for group in groups if keep(group)]
    return picked(groups, (i for i, group in enumerate(groups) if keep(group)))


def picked(groups: Sequence[Group], places: Iterable[int]) -> Sequence[Group]:
    """The groups at these places."""
    if not isinstance(groups, View):
        return [groups[i] for i in places]
    chosen = np.fromiter(places, np.int64)
    return View(len(chosen), lambda i: groups.at(int(chosen[i])))


def chained(parts: Sequence[Sequence[Group]]) -> Sequence[Group]:
    """The groups of all parts, one part after another."""
    if not any(isinstance(part, View) for part in parts):
        return [group for part in parts for group in part]
    ends = list(accumulate(map(len, parts)))

    def at(place: int) -> Group:
        k = bisect_right(ends, place)
        return parts[k][place - (ends[k - 1] if k else 0)]

    return View(ends[-1], at)
