"""What a run was given that is no setting: rows, models and functions of a Python session.

    RUN/inputs.json    each one's name, kind and digest, and whether the folder alone can make it again
    RUN/inputs/        the rows themselves; the source of functions, to be read

A run goes on with the inputs it began with, and with no others.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from trueup.errors import TrueupError

RECORD, FOLDER = "inputs.json", "inputs"
BEGUN = ("checkpoints", "model", "DONE.json")
"A folder that holds one of these holds a run that has begun."


@dataclass(frozen=True, kw_only=True)
class Input:
    """One object that a run was given."""

    name: str
    "The place it was given in: data, prompts, model, judge ..."
    kind: Literal["rows", "model", "function"]
    what: str
    "What it was, in words."
    digest: str
    "SHA-256 of its content."
    again: bool
    "Whether the run can be repeated without it: rows are kept, an importable function is found."
    file: str = ""
    "The file in the run's folder that holds it."
    content: bytes = field(default=b"", repr=False)
    "What that file holds; not part of the record."

    def to_json(self) -> dict[str, str | bool]:
        """The record's entry."""
        return {key: value for key, value in asdict(self).items() if key not in ("content", "name")}


def settle(folder: Path, inputs: Sequence[Input]) -> None:
    """Nothing; the folder holds the inputs and their record. Raises E752 where a run began with others."""
    before = {item.name: item for item in read(folder)}
    if any((folder / name).exists() for name in BEGUN):
        _compare(folder, before, inputs)
    if not inputs:
        (folder / RECORD).unlink(missing_ok=True)
        return
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    for item in inputs:
        if item.file:
            _write(folder / item.file, item.content)
    record = {item.name: item.to_json() for item in inputs}
    _write(folder / RECORD, (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode())


def _write(path: Path, content: bytes) -> None:
    """Nothing; the file holds the content, all of it or what it held before."""
    if path.is_file() and path.read_bytes() == content:
        return
    staged = path.with_name(f".{path.name}.part")
    staged.write_bytes(content)
    staged.replace(path)


def _compare(folder: Path, before: dict[str, Input], inputs: Sequence[Input]) -> None:
    for item in inputs:
        known = before.get(item.name)
        if known is None or known.digest != item.digest:
            was = f"sha256 {known.digest[:12]}" if known else "none"
            raise TrueupError(
                "E752",
                f"the run in this folder began with another {item.name}: {was}, not {item.digest[:12]}",
                where=str(folder),
                remedy=f"give the same {item.name}, choose another out=, or remove the folder",
            )


def read(folder: Path) -> list[Input]:
    """What a run was given; nothing for one that was made of settings alone."""
    path = folder / RECORD
    if not path.is_file():
        return []
    try:
        rows = json.loads(path.read_bytes())
        return [Input(name=name, **row) for name, row in rows.items()]
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise TrueupError(
            "E854",
            f"damaged: it does not say what the run was given ({type(error).__name__})",
            where=str(path),
            remedy="take it from a copy of the run; without it nobody knows what the run was given",
        ) from None


def missing(inputs: Iterable[Input]) -> list[str]:
    """A sentence for each input that the run's folder alone cannot make again."""
    kinds = {"model": "an object in memory", "function": "a function of a Python session"}
    return [
        f"This run cannot be repeated from its folder alone: the {item.name} was {kinds[item.kind]}, "
        f"{item.what} (sha256 {item.digest[:12]})."
        for item in inputs
        if not item.again
    ]
