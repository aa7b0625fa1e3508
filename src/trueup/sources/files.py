"""Groups from files, the lab, or earlier stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trueup.groups import Group
from trueup.method import Handles
from trueup.order import draw


@dataclass(frozen=True, kw_only=True, eq=False)
class Files:
    """Yields `batch` groups a step, walking through fresh permutations of all of them.

    The groups are encoded already. `written` names the columns and marks they carry.
    """

    groups: Sequence[Group]
    batch: int
    shuffle: bool = True
    written: frozenset[str] = frozenset()

    @property
    def writes(self) -> frozenset[str]:
        """What the groups carry."""
        return self.written

    def __call__(self, step: int, handles: Handles) -> list[Group]:
        """The groups of step `step`."""
        chosen = draw(len(self.groups), self.batch, step, handles.seed, shuffle=self.shuffle)
        return [self.groups[i] for i in chosen]


@dataclass(frozen=True, kw_only=True, eq=False)
class Everything:
    """Yields all its groups at every call, in order: the held-out set."""

    groups: Sequence[Group]
    written: frozenset[str] = frozenset()

    @property
    def writes(self) -> frozenset[str]:
        """What the groups carry."""
        return self.written

    def __call__(self, step: int, handles: Handles) -> list[Group]:
        """All groups."""
        return list(self.groups)
