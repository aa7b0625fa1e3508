"""A stage's folder in the hands of one process: made, locked, cleared of what a kill left half written."""

from __future__ import annotations

import fcntl
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from trueup.engine import disk
from trueup.errors import TrueupError
from trueup.runs.signals import Interrupted

LOCK = ".lock"
"A file of its own, empty, never removed: who removed it could remove another's lock."
PATIENCE = 0.2
"Seconds between two looks at a lock that another process has."
GLANCE = 0.1
"Seconds for which a lock that another has may be no more than `is_held`'s look at it."


@contextmanager
def holding(folder: Path, *, waits: bool, stop_requested: Callable[[], str]) -> Iterator[None]:
    """Inside, no other process runs the stage, until this one leaves or is killed.

    Raises E941 for a folder that cannot be written to, E903 where another process has it, or, if it `waits`
    until that one has ended, `Interrupted` when it is asked to stop meanwhile.
    """
    disk.make_folder(folder)
    with disk.refusals(folder):
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        _lock(handle, folder, waits, stop_requested)
        disk.sweep(folder)
        yield
    finally:
        os.close(handle)


@contextmanager
def present(folder: Path) -> Iterator[None]:
    """Inside, `is_held` says of a folder of many stages that a process is at work there; none is kept out."""
    disk.make_folder(folder)
    with disk.refusals(folder):
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        mark(handle)
        yield
    finally:
        os.close(handle)


def mark(handle: int) -> None:
    """Nothing; the open file is locked while it or who inherits it lasts, unless another has it."""
    with suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_held(folder: Path, name: str = LOCK) -> bool | None:
    """Whether a process holds a folder, or another file of it; None where the file system keeps no locks.

    To see it the lock is shared for an instant, which whoever wants it just then waits out.
    """
    try:
        handle = os.open(folder / name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(handle)
    return False


def _lock(handle: int, folder: Path, waits: bool, stop_requested: Callable[[], str]) -> None:
    glance = time.monotonic() + GLANCE
    while True:
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < glance:
                time.sleep(GLANCE / 10)
                continue
            if not waits:
                raise TrueupError(
                    "E903",
                    "another process is running this stage",
                    where=str(folder),
                    remedy="wait until it has ended, then run this again; or write elsewhere: --out DIR",
                ) from None
        except OSError as error:  # some network file systems keep no locks, and runs go on there
            return warnings.warn(f"{folder}: no lock ({error}); keep to one process", stacklevel=2)
        if stop_requested():
            raise Interrupted(None, stop_requested())
        time.sleep(PATIENCE)
