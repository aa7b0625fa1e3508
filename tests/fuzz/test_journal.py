"""Lines that are appended, torn, refused and cut back end as those of a run that nothing disturbed."""

from __future__ import annotations

import errno
import os
from typing import Any
from unittest import mock

import pytest
from hypothesis import strategies as some
from hypothesis.stateful import invariant, precondition, rule

from fuzz.bounds import InFolder, Killed, bounded
from trueup.errors import TrueupError
from trueup.runs.meter import METRICS, TIMINGS, Meter, read

NUMBERS = some.dictionaries(some.sampled_from(["loss", "é", "a b"]), some.floats(), min_size=1)


class Journal(InFolder):
    def __init__(self) -> None:
        super().__init__()
        self.planned: list[tuple[dict[str, float], dict[str, float] | None]] = []
        "What each step measures, and its held-out numbers: a step that is taken again measures the same."
        self.step = 0
        self.meter = Meter(self.folder / "run")
        self.torn = False

    def written(self, meter: Meter, step: int) -> None:
        """Nothing; the meter writes what the step measures, and what it cost."""
        train, held_out = self.planned[step - 1]
        meter.write(step, train)
        if held_out is not None:
            meter.write(step, held_out, phase="eval")
        meter.spend(step, tokens_trained=10 * step, tokens_sampled=step)

    def next_step(self, train: dict[str, float], held_out: dict[str, float] | None) -> None:
        if self.step == len(self.planned):
            self.planned.append((train, held_out))

    @precondition(lambda self: not self.torn)
    @rule(train=NUMBERS, held_out=some.one_of(some.none(), NUMBERS))
    def append(self, train: dict[str, float], held_out: dict[str, float] | None) -> None:
        self.next_step(train, held_out)
        self.step += 1
        self.written(self.meter, self.step)

    @precondition(lambda self: not self.torn)
    @rule(train=NUMBERS, after=some.integers(0, 60), full=some.booleans())
    def append_in_part(self, train: dict[str, float], after: int, full: bool) -> None:
        """A disk that is full after so many bytes says so, and takes them back; a kill leaves them."""
        self.next_step(train, None)
        write, room = os.write, [after]

        def limited(handle: int, data: Any) -> int:
            if room[0] <= 0:
                raise OSError(errno.ENOSPC, "full") if full else Killed
            done = write(handle, memoryview(data)[: room[0]])
            room[0] -= done
            return done

        before = (self.folder / "run" / METRICS).read_bytes() if self.step else b""
        row = self.planned[self.step][0]
        with mock.patch.object(os, "write", limited):
            if full:
                try:
                    self.meter.write(self.step + 1, row)
                    self.torn = True  # There was room; the step's other lines were not written.
                except TrueupError as error:
                    assert error.code == "E941"
                    assert (self.folder / "run" / METRICS).read_bytes() == before
            else:
                self.torn = True
                try:
                    self.meter.write(self.step + 1, row)
                except Killed:
                    assert (self.folder / "run" / METRICS).read_bytes().startswith(before)

    @rule(back=some.integers(0, 4))
    def resume(self, back: int) -> None:
        self.step = max(0, self.step - back)
        self.meter = Meter(self.folder / "run")
        self.meter.truncate_after(self.step)
        self.torn = False

    @invariant()
    def the_bytes_are_those_of_an_undisturbed_run(self) -> None:
        if self.torn:
            self.reads_without_its_torn_end()
            return
        for path in (self.folder / "whole").glob("*"):
            path.unlink()
        other = Meter(self.folder / "whole")
        for step in range(1, self.step + 1):
            self.written(other, step)
        ends = [self.folder / name / METRICS for name in ("run", "whole")]
        left, right = ((path.read_bytes() if path.exists() else b"") for path in ends)
        assert left == right
        costs = read(self.folder / "run" / TIMINGS)
        assert [(row["step"], row["tokens_trained"]) for row in costs] == [
            (step, 10 * step) for step in range(1, self.step + 1)
        ]

    def reads_without_its_torn_end(self) -> None:
        """Nothing; a reader sees the lines that were finished, and no other."""
        path = self.folder / "run" / METRICS
        data = path.read_bytes() if path.exists() else b""
        assert len(read(path)) == data.count(b"\n")
        assert all(row["step"] <= self.step + 1 for row in read(path))


TestJournal = Journal.TestCase
TestJournal.settings = bounded(20)


def test_half_a_line_is_no_line(tmp_path: Any) -> None:
    """By hand: three bytes of a second line are left out by a reader, and cut off by a run that resumes."""
    meter = Meter(tmp_path)
    meter.write(1, {"loss": 0.5})
    with (tmp_path / METRICS).open("ab") as file:
        file.write(b'{"s')
    assert read(tmp_path / METRICS) == [{"step": 1, "phase": "train", "loss": 0.5}]
    Meter(tmp_path).truncate_after(1)
    assert (tmp_path / METRICS).read_bytes() == b'{"step": 1, "phase": "train", "loss": 0.5}\n'
    with pytest.raises(TrueupError, match="E942"):
        meter.write(2, {"step": 1.0})
