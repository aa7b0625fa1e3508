"""DONE.json: what a finished stage handed on, read back strictly, and whether it is still there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from trueup.errors import TrueupError
from trueup.settings.json_files import read_object
from trueup.settings.names import check_within
from trueup.settings.sealed import verify

FILE = "DONE.json"
_AGAIN = f"remove {FILE}: the same command goes on from the last checkpoint and writes it again"


@dataclass(frozen=True, kw_only=True)
class Done:
    """What a finished stage handed on: its main output, files to show at the run's top, and numbers."""

    output: str
    publish: tuple[str, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    cost: Mapping[str, float] = field(default_factory=dict)
    method: str = ""
    "What made it, by the name that `discover.find` takes."


def read_done(folder: Path) -> Done:
    """What the finished stage in a folder handed on.

    Raises E854 where the file is no JSON object, E860 where it does not say what a stage handed on.
    """
    path = folder / FILE
    row = read_object(path, remedy=_AGAIN)
    wrong = next(_wrong(row), "")
    if wrong:
        raise TrueupError("E860", f"damaged: {wrong}", where=str(path), remedy=_AGAIN)
    done = Done(**{**row, "publish": tuple(row.get("publish", ()))})
    for name in (done.output, *done.publish):
        check_within(folder, folder / name, str(path))
    return done


def check_handed_on(folder: Path) -> Done:
    """What the finished stage in a folder handed on, once it is seen to be there still, and whole.

    Raises E861 where an output or a published file is missing, and for a model what `sealed.verify` raises.
    """
    done = read_done(folder)
    for name in (done.output, *done.publish):
        if not (folder / name).exists():
            reason = f"the stage has finished, and what it handed on is missing: {name}"
            raise TrueupError("E861", reason, where=str(folder), remedy=_AGAIN)
    verify(folder / done.output)
    return done


def _wrong(row: Mapping[str, Any]) -> Any:
    """What is wrong with the file's values, in words."""
    unknown = sorted(row.keys() - {item.name for item in fields(Done)})
    if unknown:
        yield f"an unknown key {unknown[0][:60]!a}"
    if not isinstance(row.get("output"), str) or not row["output"]:
        yield "`output` names no file"
    publish = row.get("publish", [])
    if not isinstance(publish, list) or not all(isinstance(name, str) and name for name in publish):
        yield "`publish` is no list of files"
    if not isinstance(row.get("method", ""), str):
        yield "`method` is no text"
    for key in ("metrics", "cost"):
        numbers = row.get(key, {})
        if not isinstance(numbers, dict) or not all(map(_is_number, numbers.values())):
            yield f"`{key}` holds what is no number"


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
