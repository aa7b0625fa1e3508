"""Column maps: which of the file's columns stands for which of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from typing import Any

from trueup.data import beside
from trueup.data.formats import CONTENT, all_formats
from trueup.data.problems import keys_of, nearest, printable
from trueup.errors import TrueupError


def check_columns(columns: Mapping[str, str] | None) -> dict[str, str]:
    """The map, when every left side is a name that a format reads. Raises TrueupError E209."""
    for ours in columns or {}:
        if ours not in _known():
            close = nearest(str(ours), _known())
            remedy = (
                f"did you mean {close}?" if close else "name one of ours first: --columns.prompt question"
            )
            reason = f"no format reads a field called {ours!r}"
            raise TrueupError("E209", reason, where="--columns", remedy=remedy)
    return dict(columns or {})


def check_found(columns: Mapping[str, str], samples: Sequence[Mapping[str, Any]], where: str) -> None:
    """None. Raises TrueupError E209 for a mapped column that no row has."""
    for ours, theirs in columns.items():
        if samples and not any(ours in row for row in samples):
            present = dict.fromkeys(key for row in samples[:100] for key in row)
            close = nearest(theirs, list(present))
            reason = f"no row has the column {printable(theirs)!r} (found: keys {keys_of(present)})"
            remedy = f"did you mean --columns.{ours} {printable(close)}?" if close else "mend the map"
            raise TrueupError("E209", reason, where=where, remedy=remedy)


def rename(row: dict[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """The row under our names; `a.b` reads the field b inside a; a mapped name replaces the file's own."""
    if not columns:
        return row
    found = {ours: _lookup(row, theirs) for ours, theirs in columns.items()}
    taken = set(columns.values()) | set(columns)
    made = {key: value for key, value in row.items() if key not in taken}
    made.update({ours: value for ours, (present, value) in found.items() if present})
    return made


def small(keys: tuple[Any, ...]) -> Mapping[str, str]:
    """Which of a row's columns only differ from ours in capitals, and our name of each: {"Prompt": "prompt"}.

    None where a column that is learned from has our own spelling: then capitals may mean something.
    """
    return _small(keys) if all(isinstance(key, str) for key in keys) else {}


@lru_cache(maxsize=4096)
def _small(keys: tuple[str, ...]) -> Mapping[str, str]:
    found = {key: name for key in keys if (name := key.strip().lower()) in _known()}
    is_plain = any(key in CONTENT for key in keys)
    is_clear = len(set(found.values())) == len(found)
    return {} if is_plain or not is_clear else {key: name for key, name in found.items() if key != name}


@cache
def _known() -> frozenset[str]:
    return frozenset({"id", "user", "user_id", *beside.READ}).union(
        *(item.keys for item in all_formats().values())
    )


def _lookup(row: Mapping[str, Any], path: str) -> tuple[bool, Any]:
    if path in row:
        return True, row[path]
    value: Any = row
    for name in path.split("."):
        if not isinstance(value, Mapping) or name not in value:
            return False, None
        value = value[name]
    return True, value
