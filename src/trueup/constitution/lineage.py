"""Who wrote a row, so that it can be told which weights, and which prompts, it came from."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple


class Author(NamedTuple):
    """A model as rows name it."""

    name: str
    digest: str
    "SHA-256 over its weights; empty for a server, which does not show them."


def author_of(name: str, folder: Path) -> Author:
    """The author in a model's folder: named by its weights' digest where there are any, else by `name`."""
    files = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    if not files:
        return Author(name, "")
    state = hashlib.sha256()
    for path in files:
        state.update(path.name.encode() + b"\0")
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                state.update(chunk)
    return Author(f"model-{state.hexdigest()[:12]}", state.hexdigest())
