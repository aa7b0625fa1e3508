"""Whatever is saved, retained, damaged and killed, the newest good checkpoint is found, and none is lost."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest import mock

from hypothesis import strategies as some
from hypothesis.stateful import invariant, precondition, rule

from fuzz.bounds import InFolder, Killed, bounded
from runs.checkpoint.states import whole, write
from runs.checkpoint.test_damage import FAULTS, damage
from trueup.errors import TrueupError
from trueup.runs.checkpoint import latest, load, retain

SEEDS, WHICH = some.integers(0, 2**32), some.sampled_from([0, 0, 0, 1, 2, 5])
OPERATIONS = ("mkdir", "write", "fsync", "rename", "unlink", "rmdir")


def dying(number: int) -> Any:
    """A context in which the process dies at that operation on the disk, half-way through where it writes."""
    left = [number]

    def around(name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def traced(*args: Any, **said: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            if left[0] == 0:
                if name == "write":
                    real(args[0], memoryview(args[1])[: len(args[1]) // 2])
                raise Killed
            return real(*args, **said)

        return traced

    return mock.patch.multiple(os, **{name: around(name) for name in OPERATIONS})


@dataclass
class Entry:
    """A checkpoint that was committed."""

    step: int
    folder: int
    "Its inode: a later one of its name moves it."
    good: bool = True


class Checkpoints(InFolder):
    def __init__(self) -> None:
        super().__init__()
        self.step = 0
        self.entries: list[Entry] = []

    def places(self) -> dict[int, str]:
        """The names of the folders that are not hidden, by inode."""
        found = (item for item in os.scandir(self.folder) if not item.name.startswith("."))
        return {item.inode(): item.name for item in found}

    def all_there(self) -> None:
        """Nothing; fails where a committed checkpoint has vanished."""
        assert {entry.folder for entry in self.entries} <= self.places().keys()

    @rule(name=some.sampled_from(["a", "b"]))
    def save(self, name: str) -> None:
        self.step += 1
        path = write(self.folder, self.step, name, size=3)
        self.entries.append(Entry(self.step, path.stat().st_ino))
        self.all_there()

    @rule(name=some.sampled_from(["a", "b"]), number=some.integers(1, 24))
    def save_and_die(self, name: str, number: int) -> None:
        self.step += 1
        before = self.places()
        try:
            with dying(number):
                write(self.folder, self.step, name, size=3)
        except Killed:
            pass
        self.all_there()
        # Whole under its name though nobody was told, or hidden: nothing in between.
        for inode in self.places().keys() - before:
            assert whole(load(self.folder / self.places()[inode])) == self.step
            self.entries.append(Entry(self.step, inode))

    @rule(count=some.integers(0, 3), number=some.one_of(some.none(), some.integers(1, 8)))
    def retain(self, count: int, number: int | None) -> None:
        newest = max((e.step for e in self.entries if e.good), default=0)
        recent = {entry.folder for entry in self.entries[-max(1, count) :]}
        try:
            with dying(number or 10**9):
                retain(self.folder, count)
        except (Killed, TrueupError):
            assert number or not all(entry.good for entry in self.entries)
        there = self.places().keys()
        assert recent <= there
        self.entries = [entry for entry in self.entries if entry.folder in there]
        assert newest == max((e.step for e in self.entries if e.good), default=0)

    @precondition(lambda self: any(entry.good for entry in self.entries))
    @rule(which=WHICH, kind=some.sampled_from(FAULTS), seed=SEEDS, remove=some.booleans())
    def damage(self, which: int, kind: str, seed: int, remove: bool) -> None:
        good = [entry for entry in self.entries if entry.good]
        entry, rng = good[-1 - which % len(good)], random.Random(seed)
        files = sorted((self.folder / self.places()[entry.folder]).iterdir())
        damage(rng.choice(files), kind, rng)
        entry.good = False
        if remove:
            self.retain(1, None)

    @invariant()
    def the_newest_good_one_is_found(self) -> None:
        good = [entry.step for entry in self.entries if entry.good]
        found = latest(self.folder)
        assert (found is None) if not good else whole(found) == good[-1]
        newer = [entry for entry in self.entries if entry.step > (good[-1] if good else 0)]
        said = [error.where for error in found.skipped] if found else []
        assert not found or all(any(f"/{self.places()[e.folder]}/" in w for w in said) for e in newer)


TestCheckpoints = Checkpoints.TestCase
TestCheckpoints.settings = bounded(16)
