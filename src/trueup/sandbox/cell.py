"""Starts, bounds and ends sealed processes, and says how a program did: the side that trusts nothing.

It never reads what a program says. It carries lines, capped and against a deadline, between the process of
the program and the process of the tests, and believes only a verdict with the nonce of this run.
"""

from __future__ import annotations

import json
import os
import secrets
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from trueup.errors import EXIT_UNAVAILABLE, TrueupError
from trueup.sandbox import plain
from trueup.sandbox.inside import CALL, READY, VERDICT

Outcome = Literal["passed", "failed", "timeout", "crashed", "flooded", "unsupported"]
_BOOT = (
    "import sys; sys.path.insert(0, sys.argv[2]); from trueup.sandbox.inside import main; "
    "main(sys.argv[1], *map(int, sys.argv[3:]))"
)
_SOURCES = str(Path(__file__).resolve().parents[2])
_STARTING = 60.0
"Seconds for a process to start and seal itself, which takes 0.05: what a busy machine does is no verdict."


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
            raise TrueupError(
                "E702",
                "a limit is too low to start an interpreter",
                where="sandbox limits",
                remedy="give at least 1 second and 64 MiB",
            )


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How a program did against its tests.

    passed        every test held
    failed        a test did not hold, or the program does not load or raised
    timeout       the deadline came first
    crashed       a process ended before the verdict
    flooded       a message was larger than allowed
    unsupported   these tests cannot be run across a border: see docs/sandbox.md
    """

    outcome: Outcome
    detail: str = ""
    "One line for a person. It may quote the program: data, never an instruction."

    @property
    def passed(self) -> bool:
        """Whether every test held."""
        return self.outcome == "passed"


class _Stop(Exception):
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
    _held: bytearray

    def start(self, source: dict[str, Any], deadline: float) -> None:
        """Gives the process what it is to run, until the deadline."""
        self.deadline = deadline
        self.send(json.dumps(source).encode())

    def send(self, line: bytes) -> None:
        """Writes one line; raises _Stop if the process is gone or does not read in time."""
        assert self.process.stdin is not None
        descriptor, rest = self.process.stdin.fileno(), memoryview(line + b"\n")
        while rest:
            self._wait(descriptor, select.POLLOUT)
            try:
                rest = rest[os.write(descriptor, rest) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise _Stop("crashed", "the process ended") from error

    def line(self) -> bytes:
        """The next line; raises _Stop at the deadline, at the cap, or if the process ends without one."""
        assert self.process.stdout is not None
        descriptor = self.process.stdout.fileno()
        while (end := self._held.find(b"\n")) < 0:
            if len(self._held) > self.most:
                raise _Stop("flooded", f"more than {self.most} bytes in one message")
            self._wait(descriptor, select.POLLIN)
            read = os.read(descriptor, 65536)
            if not read:
                raise _Stop("crashed", "the process ended")
            self._held += read
        line = bytes(self._held[:end])
        del self._held[: end + 1]
        if len(line) > self.most:
            raise _Stop("flooded", f"more than {self.most} bytes in one message")
        return line

    def _wait(self, descriptor: int, event: int) -> None:
        poll = select.poll()
        poll.register(descriptor, event)
        left = self.deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise _Stop("timeout", "the deadline came first")


@contextmanager
def sealed(role: str, limits: Limits) -> Iterator[Sealed]:
    """A sealed process that waits for its source; killed, with its whole group, at the end.

    Raises E951 where this machine cannot seal one: nothing is then run.
    """
    numbers = (os.getpid(), limits.memory_mib, limits.cpu_seconds)
    with tempfile.TemporaryDirectory(prefix="trueup-cell-") as empty:
        process = subprocess.Popen(
            [
                sys.executable,
                "-s",
                "-S",
                "-P",
                "-B",
                "-Xutf8",
                "-c",
                _BOOT,
                role,
                _SOURCES,
                *map(str, numbers),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=empty,
            # Not even a path. A fixed seed of hashes, so that the same program gets the same verdict.
            env={"PYTHONHASHSEED": "0"},
            close_fds=True,
            start_new_session=True,
            bufsize=0,
        )
        try:
            assert process.stdin is not None
            os.set_blocking(process.stdin.fileno(), False)
            cell = Sealed(
                process=process,
                deadline=time.monotonic() + _STARTING,
                most=limits.message_kib * 1024,
                _held=bytearray(),
            )
            _refuse_unless_sealed(cell)
            yield cell
        finally:
            _end(process)


def check(program: str, tests: str, *, entry_point: str = "", limits: Limits | None = None) -> Verdict:
    """How `program` does against `tests`: assertions about its functions, or a `check(candidate)`.

    Program and tests run in two sealed processes. `entry_point` is what `candidate` stands for; other
    functions of the program are found by the names that the tests use.

    Raises E951 where this machine cannot seal a process.
    """
    limits = limits or Limits()
    nonce = secrets.token_hex(16)
    asked = {"source": tests, "entry_point": entry_point, "nonce": nonce}
    try:
        with ExitStack() as stack:
            answering = stack.enter_context(sealed("program", limits))
            asking = stack.enter_context(sealed("tests", limits))
            deadline = time.monotonic() + limits.seconds
            answering.start({"source": program}, deadline)
            asking.start(asked, deadline)
            loaded = _reply(answering.line())
            if "loaded" not in loaded:
                return Verdict(outcome="failed", detail=f"the program does not load: {_words(loaded)}")
            while (line := asking.line())[:1] == CALL:
                answering.send(line[1:])
                asking.send(answering.line())
            return _verdict(line, nonce)
    except _Stop as stop:
        return Verdict(outcome=stop.outcome, detail=stop.detail)


def check_all(
    jobs: Sequence[tuple[str, str, str]], *, limits: Limits | None = None, workers: int | None = None
) -> list[Verdict]:
    """The verdicts of (program, tests, entry point) triples, in order, `workers` at a time."""
    with ThreadPoolExecutor(workers or min(4, os.cpu_count() or 1)) as pool:
        return list(pool.map(lambda job: check(job[0], job[1], entry_point=job[2], limits=limits), jobs))


def call(program: str, name: str, *args: Any, limits: Limits | None = None) -> tuple[Outcome, Any]:
    """What one function of a program gives: `passed` and its value, or another outcome and why not.

    Raises E951 where this machine cannot seal a process.
    """
    limits = limits or Limits()
    try:
        with sealed("program", limits) as cell:
            cell.start({"source": program}, time.monotonic() + limits.seconds)
            loaded = _reply(cell.line())
            if "loaded" not in loaded:
                return "failed", _words(loaded)
            given = plain.encode((args, {})).decode()
            cell.send(json.dumps({"name": name, "given": given}).encode())
            reply = _reply(cell.line())
            if "value" not in reply:
                return "failed", _words(reply) if "error" in reply else "its result is no plain data"
            return "passed", plain.decode(reply["value"].encode())
    except plain.NotPlainError as error:
        return "failed", str(error)
    except _Stop as stop:
        return stop.outcome, stop.detail


def _reply(line: bytes) -> dict[str, str]:
    """What a program's process says, as text by name; empty for what it should not say."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}


def _words(reply: dict[str, str]) -> str:
    return repr(f"{reply.get('error', 'nothing')}: {reply.get('said', '')}"[:200])[1:-1]


def _verdict(line: bytes, nonce: str) -> Verdict:
    given = _reply(line[1:]) if line[:1] == VERDICT else {}
    if not secrets.compare_digest(given.get("nonce", "").encode(), nonce.encode()):
        return Verdict(outcome="crashed", detail="no verdict of this run")
    outcome = cast(Outcome, given["outcome"])
    return Verdict(outcome=outcome, detail=repr(given["detail"])[1:-1])


def _refuse_unless_sealed(cell: Sealed) -> None:
    try:
        line = cell.line()
    except _Stop as stop:
        line = READY + json.dumps({"refused": f"the process did not start: {stop.detail}"}).encode()
    report = _reply(line[1:]) if line[:1] == READY else {}
    if "landlock" not in report:
        raise TrueupError(
            "E951",
            f"no sandbox: {report.get('refused', 'the process did not say that it is sealed')}",
            where="generated code",
            remedy="run it on Linux 5.13 or later (x86-64) with Landlock and seccomp; see docs/sandbox.md",
            exit_code=EXIT_UNAVAILABLE,
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kills the process and whatever shares its group, and collects it."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    process.wait()
