"""Runs training in forked processes on request, so that Python's imports are paid for once.

Reads one JSON object a line: {"method", "folder", "stop_after", "signal": [name, seconds], "loop": {...}}.
Answers {"exit": code}. Every request is a process of its own: it shares with others only what is on disk.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch

from resume.runs import make
from trueup.errors import EXIT_PREEMPTED, TrueupError
from trueup.keeper import Interrupted
from trueup.signals import stop_requests

torch.set_num_threads(1)


def child(request: dict[str, Any]) -> int:
    """The exit code of one run."""
    folder = Path(request["folder"])
    try:
        with stop_requests() as stop_requested:
            run = make(request["method"], folder, **request.get("loop", {}))
            digests = run.go(stop_after=request.get("stop_after"), stop_requested=stop_requested)
    except Interrupted:
        return EXIT_PREEMPTED
    except TrueupError as error:
        (folder / "error.txt").write_text(str(error))
        return error.exit_code
    (folder / "end.txt").write_text(digests[max(digests)])
    return 0


def serve(request: dict[str, Any]) -> int:
    """The exit code of a forked run, negative for a signal that killed it."""
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            code = child(request)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    if "signal" in request:
        name, seconds = request["signal"]
        time.sleep(seconds)
        os.kill(pid, getattr(signal, name))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main() -> None:
    for line in sys.stdin:
        print(json.dumps({"exit": serve(json.loads(line))}), flush=True)


if __name__ == "__main__":
    main()
