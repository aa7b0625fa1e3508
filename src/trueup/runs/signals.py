"""Signals become a request that the loop polls: save, then end with exit code 75 (resume me)."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

CAUGHT = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
PATIENCE = 3
"""How many interrupts from the keyboard are waited out before one ends the program at once."""


class Interrupted(Exception):
    """The run was asked to end and has saved; starting it again goes on from there."""

    def __init__(self, step: int, signal: str) -> None:
        self.step: int = step
        self.signal: str = signal
        super().__init__(f"{signal} after step {step}")


@contextmanager
def stop_requests() -> Iterator[Callable[[], str]]:
    """A function `stop_requested()` that names the signal that asked the run to end, or is "".

    While the context lasts, SIGINT, SIGTERM and SIGUSR1 (what cluster schedulers send before they take a
    machine back) only set a flag, so a save under way is never cut short by them, however often they come.
    The third SIGINT raises KeyboardInterrupt, for a person who does not want to wait; checkpoints are atomic
    either way. Outside the main thread, where Python lets nobody handle signals, it always returns "".
    """
    asked: list[str] = []

    def note(number: int, frame: FrameType | None) -> None:
        asked.append(signal.Signals(number).name)
        if asked.count("SIGINT") >= PATIENCE:
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield lambda: ""
        return
    before = {number: signal.signal(number, note) for number in CAUGHT}
    try:
        yield lambda: asked[0] if asked else ""
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
