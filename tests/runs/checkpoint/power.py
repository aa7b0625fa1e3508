"""A disk on which the power can be cut before any system call of a save, and that can run full."""

from __future__ import annotations

import errno
import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from trueup.engine import disk
from trueup.runs import manifest


class PowerCut(BaseException):
    """Nothing may catch it: a dead process runs no handler."""


class Disk:
    """Stands in for `os` where checkpoints are written; see `stand_in`.

    Before counted call number `cut` it raises `PowerCut`, and so does every call after it. `lose` then does
    to the disk what a power cut may: files that were not synced keep a random part, and names that were made
    in a folder that was not synced are gone. `room` is how many bytes fit before ENOSPC.
    """

    def __init__(self, cut: int | None = None, room: int | None = None, syncs: bool = True) -> None:
        self.cut, self.room, self.syncs = cut, room, syncs
        self.calls = 0
        self.log: list[str] = []
        self._paths: dict[int, Path] = {}
        self._unsynced: set[Path] = set()
        self._entries: list[tuple[Path, str, Path, Path | None]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def _call(self, what: str, path: object) -> None:
        if self.cut is not None and self.calls >= self.cut:
            raise PowerCut
        self.calls += 1
        self.log.append(f"{what} {path}")

    def open(self, path: Path, flags: int, mode: int = 0o777) -> int:
        writes = bool(flags & os.O_CREAT)
        if writes:
            self._call("create", path)
        handle = os.open(path, flags, mode)
        self._paths[handle] = Path(path)
        if writes:
            self._unsynced.add(Path(path))
            self._entries.append((Path(path).parent, "create", Path(path), None))
        return handle

    def write(self, handle: int, data: memoryview) -> int:
        self._call("write", self._paths[handle])
        if self.room is not None:
            if self.room == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            data = data[: self.room]
            self.room -= len(data)
        return os.write(handle, data)

    def fsync(self, handle: int) -> None:
        path = self._paths[handle]
        self._call("fsync", path)
        if self.syncs:
            self._unsynced.discard(path)
            self._entries = [e for e in self._entries if e[0] != path]

    def close(self, handle: int) -> None:
        os.close(handle)

    def mkdir(self, path: Path) -> None:
        self._call("mkdir", path)
        os.mkdir(path)
        self._entries.append((path.parent, "create", path, None))

    def makedirs(self, path: Path, exist_ok: bool = False) -> None:
        self._call("makedirs", path)
        os.makedirs(path, exist_ok=exist_ok)
        self._entries.append((path.parent, "create", path, None))

    def rename(self, old: Path, new: Path) -> None:
        self._call("rename", f"{old} {new}")
        os.rename(old, new)
        self._unsynced = {_moved(p, old, new) for p in self._unsynced}
        self._entries.append((new.parent, "rename", new, old))

    def unlink(self, path: Path) -> None:
        self._call("unlink", path)
        os.unlink(path)

    def rmdir(self, path: Path) -> None:
        self._call("rmdir", path)
        os.rmdir(path)

    def lose(self, rng: random.Random) -> None:
        """What was not synced is lost: contents cut at random, then names undone from the last backwards."""
        for path in self._unsynced:
            if path.exists():
                os.truncate(path, rng.randint(0, path.stat().st_size))
        for _, kind, path, old in reversed(self._entries):
            if kind == "rename" and old is not None and path.exists():
                os.rename(path, old)
            elif path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def _moved(path: Path, old: Path, new: Path) -> Path:
    return new / path.relative_to(old) if path.is_relative_to(old) else path


def stand_in(patch: pytest.MonkeyPatch, for_os: Disk) -> None:
    """Nothing; checkpoints are written to that disk."""
    for module in (manifest, disk):
        patch.setattr(module, "os", for_os)
