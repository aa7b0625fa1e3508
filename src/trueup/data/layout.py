"""Format: what a row of one file format looks like, and how it becomes groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from trueup.data.fields import Row
from trueup.engine.groups import Group


def _any_row(row: Row) -> bool:
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A file format: the keys its rows need and may have, and the function that reads one row."""

    name: str
    about: str
    "One line for people: what the format is and who writes it."
    needs: tuple[frozenset[str], ...]
    "Key sets; a row that has all keys of one of them may be of this format."
    may: frozenset[str] = frozenset()
    "Further keys that the format understands."
    beside: frozenset[str] = frozenset()
    "Keys of other formats that may stand beside these and are only kept in `Group.meta`."
    parse: Callable[[Row], Sequence[Group]]
    "The row's groups; raises Fault."
    fits: Callable[[Row], bool] = _any_row
    "A look at the values, for formats whose keys are the same."

    def uses(self, row: Row) -> frozenset[str]:
        """The keys of the row that this format understands; the others go to `Group.meta`."""
        wide = frozenset().union(*self.needs) | self.may
        return frozenset(key for key in row if key in wide)


def keys(*names: str) -> frozenset[str]:
    """The names as a set."""
    return frozenset(names)


def meta_of(row: Row, used: frozenset[str]) -> dict[str, Any]:
    """The row's other fields, as they came."""
    return {key: value for key, value in row.items() if key not in used and value is not None}
