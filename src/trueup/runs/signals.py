"""Signals become a request that the loop polls: save, then end with exit code 75 (resume me)."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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


class Stopped(KeyboardInterrupt):
    """A command is to end at once, as its first argument asked.

    A type of its own, since Python remembers a plain KeyboardInterrupt that passed through `exec`, as the
    imports of many modules do, and in the end kills the process by SIGINT although it was caught.
    """


def end_if_asked(stop_requested: Callable[[], str]) -> None:
    """Nothing; raises `Interrupted` where a run that is starting was asked to end."""
    if stop_requested():
        raise Interrupted(None, stop_requested())


@contextmanager
def stop_requests() -> Iterator[Callable[[], str]]:
    """A function `stop_requested()` that names the signal that asked the run to end, or is "".

    While the context lasts, SIGINT, SIGTERM and SIGUSR1 (what cluster schedulers send before they take a
    machine back) only set a flag, so a save under way is never cut short by them, however often they come.
    The third SIGINT raises Stopped, a KeyboardInterrupt, for a person who does not want to wait; checkpoints
    are atomic either way. Outside the main thread, where Python lets nobody handle signals, it always returns
    "".
    """
    asked: list[str] = []

    def note(number: int, frame: FrameType | None) -> None:
        asked.append(signal.Signals(number).name)
        if asked.count("SIGINT") >= PATIENCE:
            raise Stopped("SIGINT")

    with _handled(note):
        yield lambda: asked[0] if asked else ""


@dataclass(eq=False)
class Ending:
    """How a command ends: by which signal, "" for none, and with which code once all is said and done."""

    name: str = ""
    code: int | None = None

    def closes(self, code: int) -> None:
        """Nothing; the process is about to end with this code, and no signal changes it any more.

        Python gives up its handlers before all is closed; what is ignored stays so to the end.
        """
        self.code = code
        if code == EXIT_PREEMPTED and threading.current_thread() is threading.main_thread():
            for number in CAUGHT:
                signal.signal(number, signal.SIG_IGN)


@contextmanager
def ending_at_once(say: Callable[[str], None]) -> Iterator[Ending]:
    """Inside, any of `CAUGHT` ends a command at once: outside `stop_requests` it has nothing to save.

    The first signal raises `Stopped`. One that follows, because that was swallowed on its way, is
    said by `say` and ends the process with code 75.
    """
    ending = Ending()

    def end(number: int, frame: FrameType | None) -> None:
        if ending.code is not None:
            os._exit(ending.code)
        if ending.name:
            say(ending.name)
            os._exit(EXIT_PREEMPTED)
        ending.name = signal.Signals(number).name
        raise Stopped(ending.name)

    with _handled(end, stay=lambda: ending.code is not None):
        yield ending


@contextmanager
def _handled(
    handler: Callable[[int, FrameType | None], None], stay: Callable[[], bool] = lambda: False
) -> Iterator[None]:
    """Inside, and after it where it is to `stay`, the handler takes the signals of the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in CAUGHT}
    try:
        yield
    finally:
        for number, known in () if stay() else before.items():
            signal.signal(number, known if known is not None else signal.SIG_DFL)
