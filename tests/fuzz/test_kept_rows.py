"""Encoded rows that are kept, damaged and kept again are the rows that were read, and so are the facts."""

from __future__ import annotations

import os
import random
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import strategies as some
from hypothesis.stateful import initialize, precondition, rule

from fuzz.bounds import InFolder, Killed, bounded
from runs.checkpoint.test_damage import FAULTS, damage
from trueup.data.stored import Put
from trueup.engine.groups import Completion, Group, Message, Role, digest
from trueup.errors import TrueupError
from trueup.sources import kept

SOURCES = some.sampled_from([1, 2, 0])
"Files that rows are read of; number 0 has none that is good."
SEEDS = some.integers(0, 2**32)


def groups(source: int, version: int) -> list[Group]:
    """The groups that reading gives."""
    return [
        Group(
            prompt=(Message(Role.USER, f"{source} é\u2028 {i}"),),
            completions=(Completion(text=f"version {version}"),),
            id=str(i),
        )
        for i in range(source)
    ]


class Kept(InFolder):
    @initialize()
    def empty(self) -> None:
        self.versions = [0] * 3
        self.stored: dict[str, bool] = {}
        "Whether what is kept under a key is whole."

    def key(self, source: int) -> str:
        return f"{source}-{self.versions[source]}"

    def facts(self, source: int) -> kept.Facts:
        return kept.Facts(
            rows_in=source + 2,
            quarantined=2,
            format="chat",
            unread=("note",) * (source % 2),
        )

    def opened(self, source: int, *, quarantine: bool, dies: bool = False, changes: bool = False) -> int:
        """How often the rows were read for this; fails where what comes back is not what they are."""
        reads, version = 0, self.versions[source]

        def make(put: Put, bad: Path | None) -> kept.Facts:
            nonlocal reads
            reads += 1
            for group in groups(source, version):
                put(group)
            assert bad is not None
            bad.write_text(f"bad rows of {source}, {version}\n")
            if dies:
                raise Killed
            if changes:
                self.versions[source] += 1
            return self.facts(source)

        bad = self.folder / "bad.jsonl" if quarantine else None
        with mock.patch.dict(os.environ, {"XDG_CACHE_HOME": str(self.folder)}):
            found, facts = kept.kept(lambda: self.key(source), make, bad)
        assert digest(list(found)) == digest(groups(source, version))
        assert facts == self.facts(source)
        assert bad is None or bad.read_text() == f"bad rows of {source}, {version}\n"
        return reads

    @rule(source=SOURCES, quarantine=some.booleans())
    def open(self, source: int, quarantine: bool) -> None:
        whole = self.stored.get(self.key(source))
        reads = self.opened(source, quarantine=quarantine)
        # They are read once; a fault in white space that JSON ignores may go unnoticed.
        assert reads == (not whole) or whole is False
        self.stored[self.key(source)] = True

    @rule(source=SOURCES)
    def open_and_die(self, source: int) -> None:
        if self.key(source) not in self.stored:
            with pytest.raises(Killed):
                self.opened(source, quarantine=False, dies=True)
            assert not (self.folder / "trueup" / "rows" / self.key(source)).exists()

    @rule(source=SOURCES)
    def change_while_read(self, source: int) -> None:
        """What was read of a file that changed meanwhile is kept under neither of its keys."""
        if self.key(source) not in self.stored:
            assert self.opened(source, quarantine=True, changes=True) == 1

    @rule(source=SOURCES)
    def change(self, source: int) -> None:
        self.versions[source] += 1

    @precondition(lambda self: any(self.stored.get(self.key(source)) for source in range(3)))
    @rule(which=some.integers(0, 8), kind=some.sampled_from(FAULTS), seed=SEEDS, again=some.booleans())
    def damage(self, which: int, kind: str, seed: int, again: bool) -> None:
        whole = [source for source in range(3) if self.stored.get(self.key(source))]
        source = whole[which % len(whole)]
        files = sorted((self.folder / "trueup" / "rows" / self.key(source)).iterdir())
        damage(files[which // 3], kind, random.Random(seed))
        self.stored[self.key(source)] = False
        if again:
            self.open(source, quarantine=True)

    @rule(source=SOURCES)
    def refuse(self, source: int) -> None:
        """A disk that takes nothing more: the error says so, and nothing half is kept."""
        if self.key(source) not in self.stored:
            full = mock.patch.object(os, "fsync", side_effect=OSError(28, "No space left on device"))
            with full, pytest.raises(TrueupError, match="E120"):
                self.opened(source, quarantine=False)
            assert not (self.folder / "trueup" / "rows" / self.key(source)).exists()


TestKept = Kept.TestCase
TestKept.settings = bounded(20)


def test_facts_in_which_a_digit_is_another_are_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manifest is good JSON still, and the files are those it names: only the facts' SHA-256 tells."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    reads = []

    def make(put: Put, bad: Path | None) -> kept.Facts:
        assert bad is not None
        bad.write_text("")
        put(groups(1, 0)[0])
        reads.append(1)
        return kept.Facts(rows_in=17, quarantined=16, format="chat")

    for count, text in ((1, "17"), (1, "71"), (2, "17")):
        assert kept.kept(lambda: "key", make, None)[1].rows_in == 17
        assert len(reads) == count
        manifest = tmp_path / "trueup" / "rows" / "key" / "manifest.json"
        manifest.write_text(manifest.read_text().replace('"rows_in": 17', f'"rows_in": {text}'))
