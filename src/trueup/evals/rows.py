"""Rows of a benchmark's file: JSON Lines, or the same gzipped, read strictly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trueup.data import strict_json
from trueup.data.problems import Fault
from trueup.data.raw_rows import opened
from trueup.errors import TrueupError


def read_rows(path: Path | str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each row with its place, `FILE:LINE`; empty lines are passed over.

    Raises E801 for a missing file, E102 or E110 for one that cannot be read,
    E101 to E108 for a line that is no JSON, E201 for a row that is no object.
    """
    for where, row in read_values(path, remedy="name a JSON Lines file"):
        if not isinstance(row, dict):
            raise TrueupError("E201", "the row is no object", where=where, remedy="one {...} a line")
        yield where, row


_LARGEST = 2 << 30
"Bytes of a file of items, at most."


def read_values(path: Path | str, *, remedy: str) -> Iterator[tuple[str, Any]]:
    """As `read_rows`, with each line's value as it is; `remedy` says which file to name."""
    path = Path(path)
    if not path.is_file():
        raise TrueupError("E801", "no such file", where=str(path), remedy=remedy)
    with opened(path, str(path)) as file:
        raw = file.read(_LARGEST + 1)
    if len(raw) > _LARGEST:
        reason = f"more than {_LARGEST} bytes when it is unpacked"
        raise TrueupError("E110", reason, where=str(path), remedy="split the file")
    for number, line in enumerate(raw.splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            yield where, strict_json.loads(line)
        except Fault as fault:
            raise TrueupError(fault.code, fault.reason, where=where, remedy=fault.remedy) from None


def text_of(row: Mapping[str, Any], key: str, where: str, *, remedy: str) -> str:
    """The text under a key. Raises E206 where there is none."""
    found = row.get(key)
    if not isinstance(found, str) or not found.strip():
        raise TrueupError("E206", f"no text in `{key}`", where=where, remedy=remedy)
    return found


def share_of(row: Mapping[str, Any], key: str, where: str) -> float | None:
    """The number in [0, 1] under a key, None for null or no key. Raises E205 for anything else."""
    found = row.get(key)
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found <= 1:
        raise TrueupError("E205", f"`{key}` is {found!r}", where=where, remedy="give a number in 0 to 1")
    return float(found)
