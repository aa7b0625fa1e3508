"""JSON files of folders that others may have written: read whole, bounded, and an object, or an error."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any, NoReturn

from trueup.errors import TrueupError

LARGEST = 64 << 20
"Bytes of a file that is read whole."


def read_object(path: Path, *, remedy: str, largest: int = LARGEST) -> dict[str, Any]:
    """The JSON object in a file.

    Raises E854 for what is no regular file, is larger than `largest` bytes, cannot be read, or holds no JSON
    object: text that is not UTF-8, a key twice in one object, nesting without end.
    """
    data = read_regular(path, remedy=remedy, largest=largest)
    try:
        found = json.loads(data.decode("utf-8"), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        refuse(path, f"damaged: not JSON ({_first(error)})", remedy)
    if not isinstance(found, dict):
        refuse(path, "damaged: no JSON object", remedy)
    return found


def read_regular(path: Path, *, remedy: str, largest: int = LARGEST) -> bytes:
    """The bytes of a regular file; E854 for anything else, and for one of more than `largest` bytes."""
    try:
        # Without O_NONBLOCK a named pipe would be waited for.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode):
                refuse(path, "not a regular file", remedy)
            if facts.st_size > largest:
                refuse(path, f"{facts.st_size} bytes, and {largest} are the most that it may have", remedy)
            return file.read(largest + 1)
    except (OSError, ValueError) as error:
        refuse(path, f"cannot be read: {getattr(error, 'strerror', None) or error}", remedy)


def refuse(path: Path, reason: str, remedy: str) -> NoReturn:
    """Raises E854 for a file."""
    raise TrueupError("E854", reason, where=str(path), remedy=remedy)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice[:60]!a} stands twice")
    return found


def _first(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
