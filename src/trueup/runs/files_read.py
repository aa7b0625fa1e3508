"""The files and folders that a stage's settings name, each with a digest of what it holds."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trueup.settings import schema
from trueup.worlds import door_of, open_world


def files_of(config: Any) -> dict[str, str]:
    """The digest of each file and folder that settings name."""
    return {text: _digest_path(Path(text)) for text in _files(config)}


def _files(config: Any) -> Iterator[str]:
    """The files and folders that settings name: alone, after `lm:`, before `?...`, `#...` or `:FUNCTION`."""
    for text in schema.places(config):
        named = text.removeprefix("lm:")
        door = door_of(named)
        if door is not None:
            yield from map(str, open_world(door.world).files())
            continue
        before = re.sub(r"([?#].*|(?<=\.py):\w+)$", "", named)
        yield from (found for found in dict.fromkeys((named, before)) if _is_path(found))


def _is_path(text: str) -> bool:
    return 0 < len(text) < 1024 and "\n" not in text and "\0" not in text and Path(text).exists()


def _digest_path(path: Path) -> str:
    """SHA-256 over a file's bytes, or over the names and bytes of a folder's files."""
    state = hashlib.sha256()
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    for file in files:
        state.update(str(file.relative_to(path) if file != path else "").encode() + b"\0")
        with file.open("rb") as opened:
            while chunk := opened.read(1 << 20):
                state.update(chunk)
    return state.hexdigest()
