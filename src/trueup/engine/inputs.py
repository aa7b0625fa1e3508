"""What a run was given that its settings name and do not hold: files, and objects of a Python session.

    RUN/inputs.json    each one's name, kind and digest, and whether the folder alone can make it again
    RUN/inputs/        rows that came from memory; the source of functions, to be read

A run goes on with the inputs it began with. With others it does so only where it is told to, and the record
keeps both digests and how far the run was.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from trueup.engine import disk
from trueup.errors import TrueupError

RECORD, FOLDER = "inputs.json", "inputs"
BEGUN = ("checkpoints", "model", "DONE.json")
"A folder that holds one of these holds a run that has begun."
SAMPLED = "sampled-"
"Begins the digest of files of which not every byte was read."
ACCEPT = "--accept-changed-inputs"
_MANY = 3


@dataclass(frozen=True, kw_only=True)
class Change:
    """That an input became another one, which somebody accepted."""

    at: str
    "How far the run was: `step 3`, `its end`."
    before: str
    after: str


@dataclass(frozen=True, kw_only=True)
class Input:
    """One thing that a run was given."""

    name: str
    "The place it was given in: data, prompts, model, judge; of files the setting: data.path, judge ..."
    kind: Literal["rows", "model", "function", "files"]
    what: str
    "What it was, in words; of files what the setting says."
    digest: str
    "SHA-256 of its content."
    again: bool
    "Whether the run can be repeated without it: rows are kept, an importable function is found."
    file: str = ""
    "The file in the run's folder that holds it."
    parts: Mapping[str, str] = field(default_factory=dict)
    "Of several files each one's digest, by its name."
    whole: str = ""
    "The digest of every byte, of files of which samples are read, where it was asked for."
    since: str = ""
    "How far the run was when it was first recorded; empty for the beginning."
    changes: tuple[Change, ...] = ()
    "What became of it on the way."
    content: bytes = field(default=b"", repr=False)
    "What the file holds; not part of the record."

    def to_json(self) -> dict[str, Any]:
        """The record's entry."""
        row = {key: value for key, value in asdict(self).items() if key not in ("content", "name")}
        return {key: v for key, v in row.items() if v or key not in ("parts", "whole", "since", "changes")}


def settle(
    folder: Path, inputs: Sequence[Input], *, begun: bool, at: str = "", accept: bool = False
) -> list[str]:
    """A sentence for each change that was accepted; the folder holds the inputs and their record.

    Raises E752 where a run that has begun did so with other objects, E820 with other files, unless told to
    `accept` them. What is in the record and not given is gone, and kept there.
    """
    before = {item.name: item for item in read(folder)} if begun else {}
    changed = [i for i in inputs if begun and _differs(before.get(i.name), i)]
    if changed and not accept:
        raise _refused(folder, before, changed, ended=(folder / "DONE.json").is_file())
    now = {item.name: _entry(item, before.get(item.name), item in changed, at) for item in inputs}
    for item in inputs:
        if item.file:
            disk.make_folder((folder / item.file).parent)
            disk.write(folder / item.file, item.content)
    keep(folder, {**before, **now}.values())
    return [change_told(now[item.name], now[item.name].changes[-1]) for item in changed]


def add(folder: Path, inputs: Iterable[Input], *, at: str = "") -> None:
    """Nothing; inputs that the record does not have yet stand in it."""
    known = {item.name: item for item in read(folder)}
    more = {item.name: replace(item, since=at) for item in inputs if item.name not in known}
    if more:
        keep(folder, {**known, **more}.values())


def keep(folder: Path, inputs: Iterable[Input]) -> None:
    """Nothing; the folder's record is of these inputs, and there is none where there are none."""
    record = {item.name: item.to_json() for item in inputs}
    if record:
        disk.make_folder(folder)
        disk.write(folder / RECORD, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    else:
        disk.remove(folder / RECORD)


def read(folder: Path) -> list[Input]:
    """What a run was given; nothing for one that was made of settings alone, or before there was a record."""
    path = folder / RECORD
    if not path.is_file():
        return []
    try:
        rows = json.loads(path.read_bytes())
        return [
            Input(name=name, **{**row, "changes": tuple(Change(**c) for c in row.get("changes", ()))})
            for name, row in rows.items()
        ]
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise TrueupError(
            "E854",
            f"damaged: it does not say what the run was given ({type(error).__name__})",
            where=str(path),
            remedy="take it from a copy of the run; without it nobody knows what the run was given",
        ) from None


def brief(digest: str) -> str:
    """A digest as it is said: `sha256 3f9c21ab04de`."""
    kind = "sampled sha256" if digest.startswith(SAMPLED) else "sha256"
    return f"{kind} {digest.removeprefix(SAMPLED)[:12]}" if digest else "none"


def differing(known: Input, now: Input) -> list[str]:
    """The names of those files of an input that differ, came or went; none where it is one file."""
    names = [*known.parts, *(name for name in now.parts if name not in known.parts)]
    return [name for name in names if known.parts.get(name) != now.parts.get(name)]


def said_of(inputs: Sequence[Input]) -> list[str]:
    """What there is to say of a run's inputs: `missing` and `changes_told`."""
    return [*missing(inputs), *changes_told(inputs)]


def missing(inputs: Iterable[Input]) -> list[str]:
    """A sentence for each input that the run's folder alone cannot make again."""
    kinds = {"model": "an object in memory", "function": "a function of a Python session"}
    return [
        f"This run cannot be repeated from its folder alone: the {item.name} was {kinds[item.kind]}, "
        f"{item.what} ({brief(item.digest)})."
        for item in inputs
        if not item.again
    ]


def changes_told(inputs: Iterable[Input]) -> list[str]:
    """A sentence for each change of an input that was accepted."""
    return [change_told(item, change) for item in inputs for change in item.changes]


def changed_in(stages: Path) -> list[str]:
    """A sentence for each such change in the stages of a folder, by the stage's folder."""
    folders = sorted(path.parent for path in stages.glob(f"*/{RECORD}"))
    return [f"{folder.name}: {line}" for folder in folders for line in changes_told(read(folder))]


def change_told(item: Input, change: Change) -> str:
    """One change as a sentence."""
    return (
        f"Not made of one {item.name}: {item.what} had changed at {change.at}, {brief(change.before)} before "
        f"and {brief(change.after)} after, and was accepted with {ACCEPT}."
    )


def _differs(known: Input | None, now: Input) -> bool:
    if known is None:  # an object is always there; a file may be one that was not recorded before
        return now.kind != "files"
    both = known.whole and now.whole
    return known.digest != now.digest or bool(both and known.whole != now.whole)


def _digests(known: Input | None, now: Input) -> tuple[str, str]:
    """The two digests that differ: those of samples, else those of all bytes."""
    if known is None:
        return "", now.digest
    return (known.digest, now.digest) if known.digest != now.digest else (known.whole, now.whole)


def _entry(item: Input, known: Input | None, changed: bool, at: str) -> Input:
    """What the record says of an input from now on."""
    before = () if known is None else known.changes
    if changed:
        was, is_now = _digests(known, item)
        return replace(item, changes=(*before, Change(at=at, before=was, after=is_now)))
    if known is None:
        return replace(item, since=at)
    return replace(known, whole=known.whole or item.whole)


def _refused(
    folder: Path, before: Mapping[str, Input], changed: Sequence[Input], *, ended: bool
) -> TrueupError:
    """E752 where an object is another one, else E820."""
    item = next((item for item in changed if item.kind != "files"), None)
    if item is not None:
        known = before.get(item.name)
        was = f"sha256 {known.digest[:12]}" if known else "none"
        return TrueupError(
            "E752",
            f"the run in this folder began with another {item.name}: {was}, not {item.digest[:12]}",
            where=str(folder),
            remedy=f"give the same {item.name}, choose another out=, remove the folder, or go on with "
            "accept_changed_inputs=True, which the run's report and card will say",
        )
    named = [_named(before[item.name], item) for item in changed[:_MANY]]
    more = [f"{len(changed) - _MANY} more"] if len(changed) > _MANY else []
    means = "what it made came of the former" if ended else "what is left of it would be made of another"
    return TrueupError(
        "E820",
        f"an input is not what the run in this folder began with, and {means}: {'; '.join([*named, *more])}",
        where=str(folder),
        remedy=f"put it back, choose another --out, or add {ACCEPT}: the run goes on, and its inputs.json, "
        "report and card say so",
    )


def _named(known: Input, now: Input) -> str:
    was, is_now = _digests(known, now)
    files = differing(known, now)
    inside = f", {', '.join(files[:_MANY])}{' ...' if len(files) > _MANY else ''}" if files else ""
    return f"{now.name} ({now.what}{inside}) was {brief(was)}, is {brief(is_now)}"
