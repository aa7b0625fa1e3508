"""Templates that came with a model, rendered in a child with two seconds and 512 MiB a conversation.

A template is a program. The sandbox keeps it from the machine, not from loops and from texts of gigabytes; so
it runs in a process of its own (`woven.py`, 20 MB, started at the first rendering), which its own limits end
in the midst of whatever it does. A process has at most one such child: it ends with it, by the end of its
input, also where the process is killed. Templates of trueup's own are rendered in the process.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from trueup.errors import TrueupError

SECONDS = 2.0
"Of work for one conversation, and for all of those that a template is tried on when its model is opened."
MEMORY = 512 << 20
"Bytes of address space of the child."
_PATIENCE = 30.0
"Seconds by the clock until a child that has not ended itself is ended."
_STRIKES = 3
"How often a template may go beyond the bounds before it is asked no more."
_LIBRARIES = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
"What an interpreter may need to start; nothing else of the environment is the child's to know."
_left: ContextVar[list[float] | None] = ContextVar("seconds left", default=None)


@dataclass(eq=False)
class _Child:
    process: subprocess.Popen[bytes]
    held: bool = True
    "Whether the system holds it to its memory; where not, this process looks."
    known: set[str] = field(default_factory=set)
    "The templates that it has been sent."


_lock = threading.Lock()
_child: _Child | None = None
_strikes: Counter[str] = Counter()


@contextmanager
def together() -> Iterator[None]:
    """While it lasts, all renderings together have the seconds of one."""
    if _left.get() is not None:
        yield
        return
    token = _left.set([SECONDS])
    try:
        yield
    finally:
        _left.reset(token)


def render(key: str, source: str, request: dict[str, Any]) -> dict[str, Any]:
    """What `woven.render` replies to a request, in the child; the template's `key` stands for its `source`.

    `error` is "time" or "memory" where it went beyond the bounds.
    """
    if _strikes[key] >= _STRIKES:
        return {"error": "time", "reason": f"it did so {_STRIKES} times, and is asked no more"}
    left = _left.get()
    seconds = SECONDS if left is None else max(left[0], 0.01)
    with _lock:
        reply = _ask(key, source, {**request, "key": key, "seconds": seconds})
    if left is not None:
        left[0] -= reply.get("spent", seconds)
    if reply.get("error") in ("time", "memory"):
        _strikes[key] += 1
    return reply


def close() -> None:
    """Ends the child, if there is one."""
    global _child
    child, _child = _child, None
    if child is not None:
        child.process.kill()
        child.process.wait()
        for stream in (child.process.stdin, child.process.stdout):
            assert stream is not None
            with suppress(OSError):
                stream.close()


def _forget() -> None:
    """In a fork: the child is the other process's."""
    global _child, _lock
    _child, _lock = None, threading.Lock()


atexit.register(close)
os.register_at_fork(after_in_child=_forget)


def _ask(key: str, source: str, request: dict[str, Any]) -> dict[str, Any]:
    global _child
    if _child is None or _child.process.poll() is not None:
        close()
        _child = _started()
    if key not in _child.known:
        request["source"] = source
        _child.known.add(key)
    try:
        line = _exchanged(_child, json.dumps(request).encode() + b"\n")
    except BaseException:  # Its answer, coming late, would be taken for the next one's.
        close()
        raise
    if line is None:
        return _end(_child)
    spent, _, reply = line.partition(b"\t")
    answered: dict[str, Any] = json.loads(reply) | json.loads(spent)
    if answered.get("error") == "memory":
        close()
    return answered


def _started() -> _Child:
    found = [find_spec(name) for name in ("jinja2", "markupsafe")]
    paths = {str(Path(spec.origin).parents[1]) for spec in found if spec is not None and spec.origin}
    program = str(Path(__file__).with_name("woven.py"))
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", program, str(MEMORY), *sorted(paths)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        cwd="/",
        env={name: os.environ[name] for name in _LIBRARIES if name in os.environ},
        start_new_session=True,  # Ctrl-C is for this process, whose end is the child's.
    )
    child = _Child(process)
    line = _exchanged(child, b"")
    if line is None:
        process.kill()
        reason = f"no process to render the model's chat template in: it ended with {process.wait()}"
        remedy = "a template of trueup's own needs none: name one"
        raise TrueupError("E366", reason, remedy=remedy)
    child.held = json.loads(line)["held"]
    return child


def _exchanged(child: _Child, said: bytes) -> bytes | None:
    """The line that the child answers; None where it ended, or was ended."""
    sent, received = child.process.stdin, child.process.stdout
    assert sent is not None and received is not None
    with suppress(BrokenPipeError):
        rest = memoryview(said)
        while rest:
            rest = rest[sent.write(rest) or 0 :]
    parts: list[bytes] = []
    ready, until = select.poll(), time.monotonic() + _PATIENCE
    ready.register(received, select.POLLIN)
    while not parts or not parts[-1].endswith(b"\n"):
        if ready.poll(1000 if child.held else 50):
            parts.append(received.read(1 << 20) or b"")
            if not parts[-1]:
                return None
        elif time.monotonic() > until:
            child.process.send_signal(signal.SIGALRM)
        elif not child.held and _resident(child.process.pid) > MEMORY:
            child.process.kill()
    return b"".join(parts)


def _end(child: _Child) -> dict[str, Any]:
    """What the end of a child says of the template that it was rendering."""
    status = child.process.wait()
    close()
    if status in (-signal.SIGPROF, -signal.SIGALRM):
        return {"error": "time", "reason": ""}
    if status in (1, -signal.SIGKILL, -signal.SIGABRT):
        return {"error": "memory", "reason": ""}
    return {"error": "failed", "reason": f"the process that rendered it ended with {status}"}


def _resident(process: int) -> int:
    """The bytes of memory that a process has, where the system keeps no limit itself (macOS)."""
    shown = subprocess.run(
        ["ps", "-o", "rss=", "-p", str(process)], capture_output=True, text=True, check=False
    )
    return int(shown.stdout.strip() or 0) * 1024
