"""JSON values of a run's files, checked as they are read; a wrong one is named by its file and key."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from trueup.errors import TrueupError

COST_FIELDS = ("tokens_trained", "tokens_sampled", "seconds", "peak_mib")
Json = Mapping[str, Any]
_LARGEST = sys.float_info.max
_AGAIN = "write the run again, or remove the file"


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its 95 % interval; `low` and `high` are None where none was computed."""

    mean: float
    low: float | None = None
    high: float | None = None

    @property
    def sign(self) -> int:
        """+1 or -1 where the interval lies on one side of 0, else 0."""
        if self.low is None or self.high is None:
            return 0
        return 1 if self.low > 0 else -1 if self.high < 0 else 0

    @property
    def ends(self) -> list[float]:
        """The mean and those ends of the interval that are known: what a scale must hold."""
        return [end for end in (self.mean, self.low, self.high) if end is not None]


def load_json(path: Path) -> Any:
    """The file's JSON value, or None if there is no such file."""
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text("utf-8", errors="replace"), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise TrueupError("E822", f"not JSON: {error}", where=path.name, remedy=_AGAIN) from None


def _refuse(word: str) -> float:
    raise ValueError(f"{word} is not a number a run may record")


def is_number(value: Any) -> TypeGuard[int | float]:
    """Whether this is a finite number a run may record; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST


def as_number(value: Any, where: str) -> float | None:
    """The number; None stays None. Raises E203 for anything else."""
    if value is None:
        return None
    if not is_number(value):
        raise TrueupError("E822", f"{str(value)[:40]!r} is not a number", where=where, remedy=_AGAIN)
    return float(value)


def as_whole(value: Any, where: str) -> int | None:
    """The number without its fraction; None stays None."""
    number = as_number(value, where)
    return None if number is None else int(number)


def as_object(value: Any, where: str) -> Json:
    """The object; None is an empty one. Raises E203 for anything else."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        reason = f"{type(value).__name__} where an object belongs"
        raise TrueupError("E822", reason, where=where, remedy=_AGAIN)
    return value


def as_array(value: Any, where: str) -> Sequence[Any]:
    """The list; None is an empty one. Raises E203 for anything else."""
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        raise TrueupError("E822", f"{type(value).__name__} where a list belongs", where=where, remedy=_AGAIN)
    return value


def as_interval(value: Any, where: str, key: str = "mean") -> Interval | None:
    """A number, or {key or "mean", ci95}; None stays None."""
    if not isinstance(value, Mapping):
        mean = as_number(value, where)
        return None if mean is None else Interval(mean)
    mean = as_number(value.get(key, value.get("mean")), f"{where}.{key}")
    if mean is None:
        return None
    bounds = value.get("ci95")
    if bounds is None:
        return Interval(mean)
    if not isinstance(bounds, Sequence) or len(bounds) != 2:
        raise TrueupError("E822", "ci95 is [low, high]", where=where, remedy=_AGAIN)
    low, high = as_number(bounds[0], where), as_number(bounds[1], where)
    # Without a width it comes from items that all agree, whose spread says nothing.
    return Interval(mean) if low == high else Interval(mean, low, high)


def as_intervals(value: Any, where: str, key: str = "mean") -> dict[str, Interval]:
    """The estimates of an object by name, as `as_interval` reads them; those that are None are left out."""
    rows = as_object(value, where)
    found = {str(name): as_interval(row, f"{where}.{name}", key) for name, row in rows.items()}
    return {name: estimate for name, estimate in found.items() if estimate is not None}


def as_numbers(value: Any, where: str, names: Iterable[str] | None = None) -> dict[str, float]:
    """The numbers of an object by name, all or those that are named; those that are None are left out."""
    row = as_object(value, where)
    found = {name: as_number(row.get(name), f"{where}.{name}") for name in (row if names is None else names)}
    return {name: number for name, number in found.items() if number is not None}
