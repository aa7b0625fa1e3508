"""Runs training in forked processes on request, so that Python's imports are paid for once.

Reads one JSON object a line: {"method", "folder", "stop_after", "kill_after": [steps begun, seconds more],
"signal": [name, phase], "loop": {...}}. Answers {"exit": code}. Every request is a process of its own: it
shares with others only what is on disk.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from runs.resume.made_runs import Run, make
from trueup.errors import EXIT_PREEMPTED, TrueupError
from trueup.runs import manifest
from trueup.runs.signals import Interrupted, stop_requests

torch.set_num_threads(1)
# SIGKILL loses nothing that was written, synced or not; power cuts are tested in tests/runs/checkpoint.
os.fsync = lambda handle: None


def child(request: dict[str, Any]) -> int:
    """The exit code of one run."""
    folder = Path(request["folder"])
    try:
        with stop_requests() as stop_requested:
            name, phase = request.get("signal", (None, None))
            if phase == "load":
                os.kill(os.getpid(), getattr(signal, name))
            run = make(request["method"], folder, **request.get("loop", {}))
            if name is not None and phase != "load":
                send_in(phase, getattr(signal, name), run)
            digests = run.go(stop_after=request.get("stop_after"), stop_requested=stop_requested)
    except Interrupted:
        return EXIT_PREEMPTED
    except TrueupError as error:
        (folder / "error.txt").write_text(str(error))
        return error.exit_code
    if digests:  # else it had ended before
        (folder / "end.txt").write_text(digests[max(digests)])
    return 0


@dataclass(frozen=True, eq=False)
class Sends:
    """A function that passes its calls on; at call number `when` it first sends this process a signal."""

    number: int
    inner: Any
    when: int = 1
    calls: list[int] = field(default_factory=list)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls.append(1)
        if len(self.calls) == self.when:
            os.kill(os.getpid(), self.number)
        return self.inner(*args, **kwargs)

    @property
    def writes(self) -> frozenset[str]:
        return self.inner.writes


def send_in(phase: str, number: int, run: Run) -> None:
    """Arranges that the signal comes while the run is in that phase."""
    if phase == "collect":
        run.method = replace(run.method, source=Sends(number, run.method.source, when=2))
    elif phase == "score":
        assert run.handles.judge is not None
        run.handles.judge = Sends(number, run.handles.judge, when=2)
    elif phase == "update":
        policy = run.handles.networks["policy"]
        run.handles.networks = {
            **run.handles.networks,
            "policy": Sent(policy, Sends(number, policy, when=20)),
        }
    elif phase == "eval":
        run.method = replace(run.method, held_out=Sends(number, run.method.held_out))
    else:
        # Twice: a save that a first signal asked for must not be hurt by a second.
        manifest._write = Sends(number, Sends(number, manifest._write, when=12), when=7)


@dataclass(frozen=True, eq=False)
class Sent:
    """A network whose calls go through a function."""

    inner: Any
    call: Any

    def __call__(self, batch: Any, want: Any) -> Any:
        return self.call(batch, want)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def serve(request: dict[str, Any]) -> int:
    """The exit code of a forked run, negative for a signal that killed it."""
    folder = Path(request["folder"])
    begun = steps_begun(folder)
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            code = child(request)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    if "kill_after" in request:
        steps, seconds = request["kill_after"]
        while steps_begun(folder) < begun + steps and not os.waitid(os.P_PID, pid, WITHOUT_REAPING):
            time.sleep(0.002)
        time.sleep(seconds)
        os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


WITHOUT_REAPING = os.WEXITED | os.WNOHANG | os.WNOWAIT


def steps_begun(folder: Path) -> int:
    """How many times the run in this folder has collected groups."""
    path = folder / "ids.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


def main() -> None:
    print("{}", flush=True)
    for line in sys.stdin:
        print(json.dumps({"exit": serve(json.loads(line))}), flush=True)


if __name__ == "__main__":
    main()
