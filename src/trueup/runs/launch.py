"""Starts the ranks of a run on this machine, one process a device, and ends with them. No torch is needed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import IO

from trueup.errors import TrueupError
from trueup.runs.devices import AGAIN, LAUNCHER
from trueup.runs.signals import CAUGHT

POLL = 0.1
PATIENCE, AFTER = 25.0, 5.0
"Seconds that ranks have to end by themselves once one has failed, and once the one that speaks has said why."


def launch(arguments: Sequence[str], count: int) -> int:
    """The exit code of `trueup ARGUMENTS` as `count` ranks on this machine: rank 0's, where it failed first.

    Rank 0 speaks. A signal to this process reaches every rank, and so does its end. Raises E871 where a
    rank was killed and rank 0 did not live to say so.
    """
    with tempfile.TemporaryFile() as said:
        ranks = _start(arguments, count, said)
        passed = {number: signal.signal(number, lambda n, _: _tell(ranks, n)) for number in CAUGHT}
        try:
            first = _wait(ranks)
        finally:
            _end(ranks)
            for number, known in passed.items():
                signal.signal(number, known)
        if first is None:
            return 0
        codes = [rank.returncode for rank in ranks]
        if codes[0] > 0:  # it has said why
            return codes[0]
        how = signal.Signals(-codes[first]).name if codes[first] < 0 else f"exit code {codes[first]}"
        raise TrueupError(
            "E871", f"rank {first} ended by {how}{_last(said)}", where="--devices", remedy=AGAIN
        )


def _start(arguments: Sequence[str], count: int, said: IO[bytes]) -> list[subprocess.Popen[bytes]]:
    """The processes, in sessions of their own: what a terminal sends reaches them through this one."""
    shared = {
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        LAUNCHER: str(os.getpid()),
    }
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // count))}
    threads["GLOO_SOCKET_IFNAME"] = "lo0" if sys.platform == "darwin" else "lo"
    return [
        subprocess.Popen(
            [sys.executable, "-m", "trueup", *arguments],
            env={**threads, **os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdin=subprocess.DEVNULL,
            stdout=None if rank == 0 else subprocess.DEVNULL,
            stderr=None if rank == 0 else said,
            start_new_session=True,
        )
        for rank in range(count)
    ]


def _wait(ranks: Sequence[subprocess.Popen[bytes]]) -> int | None:
    """The rank that failed first, once all have ended or their time is over; None where none failed."""
    first: int | None = None
    until = float("inf")
    while any(rank.poll() is None for rank in ranks) and time.monotonic() < until:
        failed = next((i for i, rank in enumerate(ranks) if rank.poll()), None)
        if first is None and failed is not None:
            first, until = failed, time.monotonic() + PATIENCE
        if ranks[0].poll():
            until = min(until, time.monotonic() + AFTER)
        time.sleep(POLL)
    return first if first is not None else next((i for i, rank in enumerate(ranks) if rank.poll()), None)


def _tell(ranks: Sequence[subprocess.Popen[bytes]], number: int) -> None:
    for rank in ranks:
        if rank.poll() is None:
            rank.send_signal(number)


def _end(ranks: Sequence[subprocess.Popen[bytes]]) -> None:
    _tell(ranks, signal.SIGKILL)
    for rank in ranks:
        rank.wait()


def _last(said: IO[bytes]) -> str:
    """The last line that ranks but the first wrote, unless it is that another is gone."""
    said.seek(0)
    lines = said.read()[-4000:].decode("utf-8", "replace").strip().splitlines()
    return f": {lines[-1][:300]}" if lines and "E871" not in lines[-1] else ""


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]
