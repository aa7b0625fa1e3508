"""Signals become a request that the loop polls: save, then end with exit code 75 (resume me)."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from trueup.errors import EXIT_PREEMPTED

CAUGHT = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
PATIENCE = 3
"""How many interrupts from the keyboard are waited out before one ends the program at once."""


class Interrupted(Exception):
    """The run was asked to end and has saved; starting it again goes on from there.

    Without a step it was asked before there was anything new to save.
    """

    def __init__(self, step: int | None, signal: str) -> None:
        self.step: int | None = step
        self.signal: str = signal
        super().__init__(f"{signal} while starting" if step is None else f"{signal} after step {step}")


def end_if_asked(stop_requested: Callable[[], str]) -> None:
    """Nothing; raises `Interrupted` where a run that is starting was asked to end."""
    if stop_requested():
        raise Interrupted(None, stop_requested())


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
            raise KeyboardInterrupt("SIGINT")

    with _handled(note):
        yield lambda: asked[0] if asked else ""


@contextmanager
def ending_at_once(say: Callable[[str], None]) -> Iterator[Callable[[], str]]:
    """A function that names the signal that came, or is ""; inside, any of `CAUGHT` ends a command at once.

    For what a command does outside `stop_requests`: it has nothing to save. The first signal raises
    KeyboardInterrupt, and a later one, which comes where that was swallowed or while the process is ending,
    says so by `say` and ends the process with code 75.
    """
    asked: list[str] = []

    def end(number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        asked.append(name)
        if len(asked) == 1:
            raise KeyboardInterrupt(name)
        say(name)
        os._exit(EXIT_PREEMPTED)

    with _handled(end):
        yield lambda: asked[0] if asked else ""


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Inside, the handler takes the signals; outside the main thread nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in CAUGHT}
    try:
        yield
    finally:
        for number, known in before.items():
            signal.signal(number, known if known is not None else signal.SIG_DFL)
