"""Files that a battle adds to: rows as JSON lines, whole ones only, whatever cut the last one short."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from trueup.engine import disk
from trueup.errors import TrueupError


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows of a file, none where there is no file; a last line that a kill cut short is cut off.

    Raises E437 for a line that is no JSON object.
    """
    content = path.read_bytes() if path.is_file() else b""
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        disk.cut(path, whole)
    return [_row(path, number, line) for number, line in enumerate(content[:whole].splitlines(), 1)]


def add_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Nothing; the rows stand at the file's end, all of them, and survive a power cut."""
    text = "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    disk.append(path, text.encode("utf-8", "surrogatepass"), synced=True)


def _row(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
        if isinstance(row, dict):
            return row
    except (ValueError, RecursionError):
        pass
    raise TrueupError(
        "E437",
        "damaged: not a JSON object",
        where=f"{path}:{number}",
        remedy="remove the line; what it said is asked again",
    )
