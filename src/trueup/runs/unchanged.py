"""Holds a run against the inputs and settings that it began with: what changed, and whether it may go on."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from trueup.engine import inputs
from trueup.engine.inputs import ACCEPT, BEGUN, Input
from trueup.errors import TrueupError
from trueup.runs.files_read import inputs_of
from trueup.runs.manifest import ordered
from trueup.settings.strict_yaml import read_yaml

logger = logging.getLogger("trueup")
FULL = "--full-digests"
CONFIG = "config.resolved.yaml"
_ENDED = "its end"


@dataclass(frozen=True, kw_only=True)
class Terms:
    """On which terms a run may go on where it was left."""

    accept: bool = False
    "Go on with inputs that are others than it began with, and write that down."
    whole: bool = False
    "Read large weights whole to see whether they are the same, not in samples."

    def options(self) -> list[str]:
        """The command's options that say the same."""
        return [option for option, is_set in ((ACCEPT, self.accept), (FULL, self.whole)) if is_set]

    @classmethod
    def of(cls, options: Sequence[str]) -> Terms:
        """What some options say."""
        return cls(accept=ACCEPT in options, whole=FULL in options)


STRICT = Terms()


def hold(
    folder: Path, module: ModuleType, config: Any, *, given: Sequence[Input] = (), terms: Terms = STRICT
) -> None:
    """Nothing; the folder's `inputs.json` has what the run is made of: files, and the objects `given`.

    Raises E820 for a run that began with other files, E752 with other objects, unless the terms accept it;
    E821 where even then it cannot go on. Of a run that ended, or that was begun before there was a record,
    what is not in the record has nothing to be held against.
    """
    ended, begun = (folder / "DONE.json").is_file(), has_begun(folder, module)
    recorded = (folder / inputs.RECORD).is_file()
    if ended and not recorded and not given:
        return
    read = inputs_of(config, method=own_file(module), outside=folder, whole=terms.whole)
    if begun and not ended and not recorded and read:
        logger.warning("%s began before inputs were recorded; from now on they are", folder)
    at = how_far(folder) if begun else ""
    numbered = begun and not ended and rows_kept(folder, module)
    try:
        told = inputs.settle(
            folder, [*given, *read], begun=begun, at=at, accept=terms.accept and not numbered
        )
    except TrueupError as error:
        raise _numbered(error) if numbered else error from None
    for sentence in told:
        logger.warning("%s", sentence)


def _numbered(error: TrueupError) -> TrueupError:
    return TrueupError(
        "E821",
        f"{error.reason}; the rows that it has kept are numbered by the former, so it cannot go on",
        where=error.where,
        remedy="put it back, choose another --out, or remove the folder",
    )


def own_file(module: ModuleType) -> Path | None:
    """The file of a method that is the user's own; None for one that comes with trueup."""
    file = vars(module).get("__file__")
    return Path(file) if file and not module.__name__.startswith("trueup.") else None


def has_begun(folder: Path, module: ModuleType) -> bool:
    """Whether a folder holds a run of a method or procedure, or a part of one that would be gone on with."""
    return any((folder / name).exists() for name in BEGUN) or rows_kept(folder, module)


def rows_kept(folder: Path, module: ModuleType) -> bool:
    """Whether a procedure that was stopped has rows to go on from."""
    kept = vars(module).get("KEEPS")
    return kept is not None and (folder / kept).is_file()


def how_far(folder: Path) -> str:
    """`step 3`, `its end`, or where no step was saved, `its beginning`."""
    if (folder / "DONE.json").is_file():
        return _ENDED
    saved = ordered(folder / "checkpoints", [])
    found = re.match(r"step-(\d+)", saved[-1][1].name) if saved else None
    return f"step {int(found[1])}" if found else "its beginning"


def left_on_the_way(folder: Path, module: ModuleType, settings: Mapping[str, Any]) -> Path | None:
    """The folder of the same stage with the same settings, begun on other inputs and not done; the newest.

    `folder` is the one that the stage's digest names now, and there is none.
    """
    name = folder.name.rpartition("-")[0]
    found = [
        other
        for other in folders_of(folder.parent, name)
        if not (other / "DONE.json").exists() and has_begun(other, module) and (other / CONFIG).is_file()
    ]
    same = [other for other in found if not changed_settings(read_yaml(other / CONFIG).values, settings)]
    return max(same, key=lambda other: other.stat().st_mtime, default=None)


def folders_of(stages: Path, name: str) -> list[Path]:
    """The folders of a stage of a recipe, each of other settings or inputs, sorted."""
    named = re.compile(rf"{re.escape(name)}-[0-9a-f]{{10}}")
    return [path for path in sorted(stages.glob(f"{name}-*")) if named.fullmatch(path.name)]


def told_first(folder: Path, settings: Mapping[str, Any], config: Any, module: ModuleType) -> str:
    """What is said behind a stage's name: that it was done, or why it is done again; "" of a new one."""
    if (folder / "DONE.json").is_file():
        return ": done before"
    name = folder.name.rpartition("-")[0]
    done = [other for other in folders_of(folder.parent, name) if (other / "DONE.json").exists()]
    if not done:
        return ""
    last = max(done, key=lambda other: (other / "DONE.json").stat().st_mtime)
    changed = changed_settings(read_yaml(last / CONFIG).values, settings)
    if not changed:
        before = {item.name: item for item in inputs.read(last)}
        now = [i for i in inputs_of(config, method=own_file(module)) if i.name in before]
        changed = [
            f"{item.name} ({inputs.brief(before[item.name].digest)}, now {inputs.brief(item.digest)})"
            for item in now
            if item.digest != before[item.name].digest
        ]
    what = f"{', '.join(changed[:5])} changed" if changed else "what it reads changed"
    return f": again, since {what} ({last.name} stays)"


def changed_settings(before: Any, now: Any, prefix: str = "") -> list[str]:
    """The dotted keys in which two resolved settings differ, sorted."""
    now = json.loads(json.dumps(now))
    if not (isinstance(before, Mapping) and isinstance(now, Mapping)):
        return [] if before == now else [prefix.rstrip(".")]
    keys = sorted(before.keys() | now.keys())
    return [k for key in keys for k in changed_settings(before.get(key), now.get(key), f"{prefix}{key}.")]
