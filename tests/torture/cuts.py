"""A command in a forked process that dies before, or half-way through, its k-th operation on the disk.

An operation is whatever makes, changes, renames or removes something below a folder: opening for writing,
mkdir, rename, remove, rmdir, truncate, link (Python's audit events), and every `os.write` and `os.fsync`. A
cut inside a write leaves half of it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CUT = 137
"What the process exits with that was cut."
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_PATHS = {
    "os.mkdir": 1, "os.rename": 2, "os.remove": 1, "os.rmdir": 1, "os.truncate": 1, "os.link": 2,
    "os.symlink": 2,
}  # fmt: skip
"Audit events, and how many paths stand first in what they tell."


@dataclass(eq=False)
class Tracer:
    """Counts the operations below `root`; at number `cut` the process ends at once."""

    root: Path
    cut: int = 0
    "From 1; 0 for never."
    log: list[str] = field(default_factory=list)
    on: bool = True

    def install(self) -> None:
        """Nothing; from here on every operation is counted. It lasts as long as the process."""
        sys.addaudithook(self._audit)
        os.write, os.fsync = self._around_write(os.write), self._around_fsync(os.fsync)

    def _operation(self, what: str, *paths: object) -> bool:
        """Whether the process is to end here; False for what lies elsewhere."""
        given = [os.path.abspath(os.fsdecode(p)) for p in paths if isinstance(p, str | bytes | os.PathLike)]
        below = [os.path.relpath(p, self.root) for p in given if p.startswith(f"{self.root}{os.sep}")]
        if not self.on or not below:
            return False
        self.log.append(" ".join((what, *below)))
        return len(self.log) == self.cut

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = args
            if flags & _WRITING and self._operation("open", path):
                os._exit(CUT)
        elif event in _PATHS and self._operation(event, *args[: _PATHS[event]]):
            os._exit(CUT)

    def _around_write(self, write: Callable[..., int]) -> Callable[..., int]:
        def traced(handle: int, data: Any) -> int:
            if self._operation("write", _path_of(handle)):
                write(handle, memoryview(data)[: len(data) // 2])
                os._exit(CUT)
            return write(handle, data)

        return traced

    def _around_fsync(self, fsync: Callable[..., None]) -> Callable[..., None]:
        def traced(handle: int) -> None:
            if self._operation("fsync", _path_of(handle)):
                os._exit(CUT)
            # What SIGKILL finds was written, synced or not; tests/runs/checkpoint cuts the power.

        return traced


def _path_of(handle: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{handle}")
    except OSError:
        return ""


def forked(work: Callable[[], int], said: Path) -> int:
    """The exit code of `work` in a process of its own; what it printed is in the file `said`."""
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            handle = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(handle, 1)
            os.dup2(handle, 2)
            code = work()
        finally:
            with suppress(OSError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def cut_at(root: Path, number: int, work: Callable[[], int], said: Path, log: Path | None = None) -> int:
    """The exit code of `work` cut at its operation of that number below `root`: `CUT`, or its own."""

    def traced() -> int:
        tracer = Tracer(root=root, cut=number)
        tracer.install()
        code = work()
        tracer.on = False
        if log is not None:
            log.write_text("".join(f"{line}\n" for line in tracer.log), encoding="utf-8")
        return code

    return forked(traced, said)
