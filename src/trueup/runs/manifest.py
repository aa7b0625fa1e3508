"""Folders that appear whole or not at all, and are verified before a byte of them is used.

`commit` writes every file into a hidden staging folder, syncs each file and the folder, renames it to its
final name and syncs the parent. A kill at any moment leaves either what was there before, or that and the new
folder. `MANIFEST.json` names every file with its size and SHA-256, carries a hash of itself, and counts up
(`serial`), so that "newest" depends on neither names nor clocks.

A commit reaches the disk through `os` and `engine.disk` alone, so that a test can cut the power between any
two calls.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trueup.engine import disk
from trueup.errors import TrueupError

FORMAT = 1
MANIFEST = "MANIFEST.json"
PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._~-]*")
OLDER = "use an older checkpoint; resuming falls back to one by itself"
"What to do about a damaged one."
_CHUNK = 8 << 20
_MAX_MANIFEST = 64 << 20
_STAGING, _REMOVING = ".staging-", ".removing-"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """What one file will hold: its size, known beforehand, and its bytes in pieces, made when written."""

    size: int
    pieces: Iterable[memoryview]


# ------------------------------------------------------------------------------------------ reading


def verify(path: Path) -> dict[str, Any]:
    """The manifest of the folder, after every file was checked against it.

    Raises `TrueupError`: E841 damaged (names the file, the expected and the found hash), E842 no manifest,
    E843 written by a newer format. Nothing else is raised, whatever the folder holds.
    """
    manifest = read_manifest(path)
    for name, facts in manifest["files"].items():
        size, digest = _hash_file(path / name)
        _check(path / name, facts, size, digest)
    return manifest


def read_manifest(path: Path) -> dict[str, Any]:
    """The folder's manifest, itself verified; the files are not read."""
    where = str(path / MANIFEST)
    data = read_file(path / MANIFEST, limit=_MAX_MANIFEST)
    manifest = parse(data, where)
    if isinstance(manifest, dict) and type(manifest.get("format")) is int and manifest["format"] > FORMAT:
        raise TrueupError(
            "E843",
            f"format {manifest['format']}; this version reads up to {FORMAT}",
            where=where,
            remedy="update trueup",
        )
    if not _is_manifest(manifest):
        raise TrueupError("E841", "damaged: not a manifest of this format", where=where, remedy=OLDER)
    expected, found = manifest["sha256"], _own_hash(manifest)
    if expected != found:
        raise TrueupError(
            "E841", f"damaged: expected sha256 {expected}, found {found}", where=where, remedy=OLDER
        )
    if data != render(manifest):
        raise TrueupError(
            "E841", "damaged: its bytes are not those that were written", where=where, remedy=OLDER
        )
    return manifest


def ordered(folder: Path, damaged: list[TrueupError]) -> list[tuple[int, Path]]:
    """(serial, path) of the committed folders, oldest first; what is wrong with others goes to `damaged`."""
    found = []
    for name in _names(folder):
        path = folder / name
        if name.startswith(".") or not path.is_dir():
            continue
        try:
            found.append((read_manifest(path)["serial"], path))
        except TrueupError as error:
            damaged.append(error)
    return sorted(found)


def read_verified(path: Path, facts: Mapping[str, Any]) -> bytes:
    """The file's bytes, checked against its manifest entry."""
    data = read_file(path)
    _check(path, facts, len(data), hashlib.sha256(data).hexdigest())
    return data


def read_file(path: Path, limit: int | None = None) -> bytes:
    """The bytes of a regular file; anything else is a `TrueupError`."""
    parts, size = [], 0
    for chunk in _chunks(path):
        parts.append(chunk)
        size += len(chunk)
        if limit is not None and size > limit:
            raise TrueupError("E841", f"damaged: larger than {limit} bytes", where=str(path), remedy=OLDER)
    return b"".join(parts)


def render(value: Any) -> bytes:
    """The one JSON text of a value: sorted keys, ASCII, no NaN."""
    return (json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n").encode("ascii")


def parse(data: bytes, where: str) -> Any:
    """The JSON value of `data`; E841 when it is none."""
    try:
        return json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise TrueupError(
            "E841", f"damaged: not JSON ({type(error).__name__})", where=where, remedy=OLDER
        ) from None


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise disk.refusal(error, folder) from None


def _is_manifest(value: Any) -> bool:
    return (
        _has(value, format=int, serial=int, files=dict, sha256=str)
        and value["format"] == FORMAT
        and all(PLAIN_NAME.fullmatch(name) for name in value["files"])
        and all(_has(facts, size=int, sha256=str) for facts in value["files"].values())
    )


def _has(value: Any, **kinds: type) -> bool:
    """Whether a JSON value is an object of exactly these entries; True is no int."""
    return (
        isinstance(value, dict)
        and set(value) == set(kinds)
        and all(type(value[name]) is kind for name, kind in kinds.items())
    )


def _own_hash(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(render({k: v for k, v in manifest.items() if k != "sha256"})).hexdigest()


def _check(path: Path, facts: Mapping[str, Any], size: int, digest: str) -> None:
    if digest != facts["sha256"] or size != facts["size"]:
        expected = f"{facts['sha256']} ({facts['size']} bytes)"
        raise TrueupError(
            "E841",
            f"damaged: expected sha256 {expected}, found {digest} ({size} bytes)",
            where=str(path),
            remedy=OLDER,
        )


def _chunks(path: Path) -> Iterator[bytes]:
    try:
        # O_NONBLOCK: a named pipe in a file's place must be an error, not a wait that never ends.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise TrueupError("E841", "damaged: not a regular file", where=str(path), remedy=OLDER)
            while chunk := os.read(handle, _CHUNK):
                yield chunk
        finally:
            os.close(handle)
    except FileNotFoundError:
        code = "E842" if path.name == MANIFEST else "E841"
        raise TrueupError(
            code, "missing: this is no whole checkpoint", where=str(path), remedy=OLDER
        ) from None
    except OSError as error:
        raise TrueupError(
            "E841", f"cannot be read: {error.strerror}", where=str(path), remedy=OLDER
        ) from None


def _hash_file(path: Path) -> tuple[int, str]:
    state, size = hashlib.sha256(), 0
    for chunk in _chunks(path):
        state.update(chunk)
        size += len(chunk)
    return size, state.hexdigest()


# ------------------------------------------------------------------------------------------ writing


def commit(folder: Path, name: str, parts: Mapping[str, Part]) -> Path:
    """The path of the new folder `folder/name`, on disk and under its name when this returns.

    A folder that already has the name stays whole under `name~1`. Raises `TrueupError` E941 (exit 74) when
    the disk is full or refuses, E845 for a name that is not plain; what was there before is untouched.
    """
    for plain in (name, *parts):
        if not PLAIN_NAME.fullmatch(plain):
            raise TrueupError(
                "E845",
                f"not a plain file name: {plain!r}",
                where=str(folder),
                remedy="use letters, digits, - and _",
            )
    needed = sum(part.size for part in parts.values())
    try:
        disk.make_folder(folder)
        clean(folder)
        disk.require_space(folder, needed)
        return _commit(folder, name, parts)
    except OSError as error:
        _clean_quietly(folder)
        raise disk.refusal(error, folder, f"{needed} bytes needed") from error


def _commit(folder: Path, name: str, parts: Mapping[str, Part]) -> Path:
    staging, final = folder / (_STAGING + name), folder / name
    serial = max((s for s, _ in ordered(folder, [])), default=0) + 1
    os.mkdir(staging)
    files = {file: _write(staging / file, part.pieces) for file, part in parts.items()}
    manifest: dict[str, Any] = {"format": FORMAT, "serial": serial, "files": files}
    manifest["sha256"] = _own_hash(manifest)
    _write(staging / MANIFEST, [memoryview(render(manifest))])
    disk.sync(staging)
    if os.path.lexists(final):
        number = 1
        while os.path.lexists(folder / f"{name}~{number}"):
            number += 1
        os.rename(final, folder / f"{name}~{number}")
    os.rename(staging, final)
    disk.sync(folder)
    return final


def _write(path: Path, pieces: Iterable[memoryview]) -> dict[str, Any]:
    """Size and hash of the file just written and synced."""
    state, size = hashlib.sha256(), 0
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        for piece in pieces:
            state.update(piece)
            size += len(piece)
            rest = piece
            while rest:
                rest = rest[os.write(handle, rest[:_CHUNK]) :]
        os.fsync(handle)
    finally:
        os.close(handle)
    return {"size": size, "sha256": state.hexdigest()}


# ------------------------------------------------------------------------------------------ removing


def remove(folder: Path, name: str) -> None:
    """Nothing; removes a committed folder, renamed first: a removal cut short never looks like damage."""
    try:
        clean(folder)
        hidden = folder / (_REMOVING + name)
        os.rename(folder / name, hidden)
        disk.remove(hidden)
    except OSError as error:
        raise disk.refusal(error, folder) from error


def clean(folder: Path) -> None:
    """Nothing; removes what an interrupted save or removal left behind."""
    for name in os.listdir(folder):
        if name.startswith((_STAGING, _REMOVING)):
            disk.remove(folder / name)


def _clean_quietly(folder: Path) -> None:
    try:
        clean(folder)
    except OSError as error:
        _log.warning("could not clear %s: %s", folder, error)
