"""Starts, bounds and ends sealed processes: the side that trusts nothing.

What a process says is read up to a cap and against a deadline, and is data.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from trueup.errors import TrueupError
from trueup.sandbox import plain, seal
from trueup.sandbox.backends import Backend
from trueup.sandbox.inside import READY

Outcome = Literal["passed", "failed", "timeout", "crashed", "flooded", "unsupported"]
_BOOT = (
    "import sys; sys.path.insert(0, sys.argv[2]); from trueup.sandbox.inside import main; "
    "main(sys.argv[1], *map(int, sys.argv[3:]))"
)
_SOURCES = str(Path(__file__).resolve().parents[2])
_STARTING = 60.0
"Seconds for a process to start and seal itself, which takes 0.05: what a busy machine does is no verdict."
_ENVIRONMENT = {"PYTHONHASHSEED": "0"}
"Not even a path. A fixed seed of hashes, so that the same program gets the same verdict."


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one program may use."""

    seconds: float = 10.0
    "Time on the clock for the program and its tests together, once both are sealed."
    cpu_seconds: int = 10
    memory_mib: int = 512
    "Address space of the process; the interpreter itself takes about 30 MiB of it."
    message_kib: int = 1024
    "Largest call or result that crosses."

    def __post_init__(self) -> None:
        if self.seconds <= 0 or self.cpu_seconds < 1 or self.memory_mib < 64 or self.message_kib < 1:
            reason, remedy = "a limit is too low to start an interpreter", "give at least 1 second and 64 MiB"
            raise TrueupError("E702", reason, where="sandbox limits", remedy=remedy)


class Stop(Exception):
    """Ends a run with this outcome."""

    def __init__(self, outcome: Outcome, detail: str = "") -> None:
        super().__init__(detail)
        self.outcome: Outcome = outcome
        self.detail = detail


@dataclass(kw_only=True, eq=False)
class Sealed:
    """One sealed process and the lines to and from it."""

    process: subprocess.Popen[bytes]
    deadline: float
    "On the monotonic clock."
    most: int
    "Bytes of the largest line."
    _held: bytearray = field(default_factory=bytearray)

    def start(self, source: dict[str, Any], deadline: float) -> None:
        """Gives the process what it is to run, until the deadline. Raises Stop."""
        self.deadline = deadline
        self.send(json.dumps(source).encode())

    def send(self, line: bytes) -> None:
        """Writes one line; raises Stop if the process is gone or does not read in time."""
        assert self.process.stdin is not None
        descriptor, rest = self.process.stdin.fileno(), memoryview(line + b"\n")
        while rest:
            self._wait(descriptor, select.POLLOUT)
            try:
                rest = rest[os.write(descriptor, rest) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise Stop("crashed", "the process ended") from error

    def line(self) -> bytes:
        """The next line; raises Stop at the deadline, at the cap, or if the process ends without one."""
        assert self.process.stdout is not None
        descriptor = self.process.stdout.fileno()
        while (end := self._held.find(b"\n")) < 0 and len(self._held) <= self.most:
            self._wait(descriptor, select.POLLIN)
            read = os.read(descriptor, 65536)
            if not read:
                raise Stop("crashed", "the process ended")
            self._held += read
        if not 0 <= end <= self.most:
            raise Stop("flooded", f"more than {self.most} bytes in one message")
        line = bytes(self._held[:end])
        del self._held[: end + 1]
        return line

    def _wait(self, descriptor: int, event: int) -> None:
        poll = select.poll()
        poll.register(descriptor, event)
        left = self.deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise Stop("timeout", "the deadline came first")


@contextmanager
def sealed(role: str, limits: Limits, backend: Backend) -> Iterator[Sealed]:
    """A sealed process that waits for its source; killed, with all that it has around it, at the end.

    Raises E951 where this back end does not work on this machine: nothing is then run.
    """
    command = _command(role, limits, backend)
    with tempfile.TemporaryDirectory(prefix="trueup-cell-") as empty:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=empty,
            env=_ENVIRONMENT, close_fds=True, start_new_session=True, bufsize=0,
        )  # fmt: skip
        try:
            assert process.stdin is not None
            os.set_blocking(process.stdin.fileno(), False)
            starting = time.monotonic() + _STARTING
            cell = Sealed(process=process, deadline=starting, most=limits.message_kib * 1024)
            if why := _unsealed(cell, command):
                raise no_sandbox(f"{backend.name}: {why}")
            yield cell
        finally:
            _end(process)


def load(cell: Sealed, program: str, seconds: float) -> tuple[Outcome, str] | None:
    """Nothing, once the process has loaded the program; else an outcome and why it has not."""
    try:
        cell.start({"source": program}, time.monotonic() + seconds)
        answer = reply(cell.line())
    except Stop as stop:
        return stop.outcome, stop.detail
    return None if "loaded" in answer else ("failed", words(answer))


def ask(cell: Sealed, name: str, *args: Any, seconds: float) -> tuple[Outcome, Any]:
    """What a function of the loaded program gives: `passed` and its value, or another outcome and why not."""
    cell.deadline = time.monotonic() + seconds
    try:
        given = plain.encode((args, {})).decode()
        cell.send(json.dumps({"name": name, "given": given}).encode())
        answer = reply(cell.line())
        if "value" not in answer:
            return "failed", words(answer) if "error" in answer else "its result is no plain data"
        return "passed", plain.decode(answer["value"].encode())
    except plain.NotPlainError as error:
        return "failed", str(error)
    except Stop as stop:
        return stop.outcome, stop.detail


def reply(line: bytes) -> dict[str, str]:
    """What a program's process says, as text by name; empty for what it should not say."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}


def words(answer: dict[str, str]) -> str:
    """The error that an answer tells of, on one line, with what cannot be printed escaped."""
    return repr(f"{answer.get('error', 'nothing')}: {answer.get('said', '')}"[:200])[1:-1]


def no_sandbox(why: str) -> TrueupError:
    """E951: generated code cannot be run on this machine."""
    place, reason = "generated code", f"no sandbox: {why}"
    remedy = (
        "run it on Linux (x86-64) with bubblewrap, or with Landlock (5.13 and later); on another system in a "
        "container, `docker run --platform linux/amd64`: docs/sandbox.md"
    )
    return TrueupError("E951", reason, where=place, remedy=remedy)


def _command(role: str, limits: Limits, backend: Backend) -> list[str]:
    """What starts a sealed process. Raises E951 where something that it needs is not on this machine."""
    numbers = (os.getpid(), limits.memory_mib, limits.cpu_seconds, int(backend.landlock))
    words = [os.path.realpath(sys.executable), "-s", "-S", "-P", "-B", "-Xutf8", "-c", _BOOT, role, _SOURCES]
    sources = [f"{_SOURCES}/trueup/__init__.py", f"{_SOURCES}/trueup/sandbox"]
    try:
        seal.refuse_other_machines()
        if absent := [name for name in backend.needs() if shutil.which(name) is None]:
            raise seal.UnsealedError(f"{absent[0]} is not on the PATH")
        return backend.confine([*words, *map(str, numbers)], sources)
    except (seal.UnsealedError, OSError, ValueError, subprocess.SubprocessError) as error:
        raise no_sandbox(f"{backend.name}: {error}") from error


def _unsealed(cell: Sealed, command: Sequence[str]) -> str:
    """Why the process has not said that it is sealed; empty if it has."""
    try:
        line = cell.line()
    except Stop as stop:
        why = _complaint(command) if stop.outcome == "crashed" else stop.detail
        return f"the process did not start: {why}"
    report = reply(line[1:]) if line[:1] == READY else {}
    if "sealed" in report:
        return ""
    return report.get("refused", "the process did not say that it is sealed")


def _complaint(command: Sequence[str]) -> str:
    """The last line that the command says of itself when it is started again with nothing to run."""
    try:
        again = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            env=_ENVIRONMENT, timeout=_STARTING, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return "it does not end"
    said = again.stderr.decode(errors="replace").strip().rpartition("\n")[2]
    return repr(said[:200])[1:-1] or "the process ended"


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kills the process and whatever shares its group, and collects it."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    process.wait()
