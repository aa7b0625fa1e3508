"""Rows in any order, good and bad: rows in = accepted + quarantined, and together they are the file again."""

from __future__ import annotations

import random

from hypothesis import strategies as some
from hypothesis.stateful import rule

from data_rows import DEFECTS, SHAPES, good_lines
from fuzz.bounds import InFolder, bounded
from trueup.data import check
from trueup.data.places import rows_of
from trueup.data.quarantine import original_bytes
from trueup.errors import TrueupError

REFUSED = ("E101", "E118", "E202", "E204")
"No row at all, bytes that are no text, formats that nobody could tell: said of the file as a whole."
PLACE = some.integers(0, 99)
STRANGE = (
    b"\n",
    b"  \r\n",
    b"\x00\n",
    b"\xff\xfe\n",
    b"{}\n",
    b"null\n",
    b"[1]\n",
    b'{"prompt": "q"\n',
    b"\xc2\xa0\n",
)


class Quarantine(InFolder):
    """One file whose lines change; after each change it is read, and its bad rows are kept apart."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[bytes] = []

    def insert(self, place: int, line: bytes) -> None:
        self.lines.insert(place % (len(self.lines) + 1), line)

    @rule(place=PLACE, shape=some.sampled_from(SHAPES), num=some.integers(1, 3))
    def put_good(self, place: int, shape: str, num: int) -> None:
        for line in good_lines(shape, num):
            self.insert(place, line)

    @rule(place=PLACE, num=some.integers(1, 3))
    def put_pairs(self, place: int, num: int) -> None:
        for line in good_lines("preference", num):
            self.insert(place, line)

    @rule(place=PLACE, which=some.integers(0, len(DEFECTS) - 1))
    def put_bad(self, place: int, which: int) -> None:
        self.insert(place, DEFECTS[which][1])

    @rule(place=PLACE, raw=some.one_of(some.sampled_from(STRANGE), some.binary(max_size=12)))
    def put_strange(self, place: int, raw: bytes) -> None:
        self.insert(place, raw)

    @rule(place=PLACE, seed=some.integers(0, 2**32))
    def spoil(self, place: int, seed: int) -> None:
        rng, at = random.Random(seed), place % max(1, len(self.lines))
        if self.lines and self.lines[at]:
            raw = bytearray(self.lines[at])
            raw[rng.randrange(len(raw))] = rng.randrange(256)
            self.lines[at] = bytes(raw if rng.random() < 0.6 else raw[: rng.randrange(len(raw))])

    @rule(place=PLACE)
    def take_away(self, place: int) -> None:
        if self.lines:
            del self.lines[place % len(self.lines)]

    @rule(format=some.sampled_from(["auto", "auto", "preference", "chat"]))
    def read(self, format: str) -> None:
        path, bad, raw = self.folder / "rows.jsonl", self.folder / "bad.jsonl", b"".join(self.lines)
        path.write_bytes(raw)
        try:
            counts = check(path, format=format, quarantine=bad).counts
        except TrueupError as error:
            assert error.code in REFUSED, error
            if bad.exists():
                original_bytes(bad)  # It is whole, or this raises.
            return
        rows = list(rows_of(path, "train"))
        refused = {byte: piece for _, _, byte, piece in original_bytes(bad)}
        accepted = {row.byte: row.raw for row in rows if row.byte not in refused and not row.blank}
        blank = {row.byte: row.raw for row in rows if row.blank}
        assert counts.rows_in == counts.accepted + counts.quarantined == len(rows) - len(blank)
        assert (len(accepted), len(refused), len(blank)) == (
            counts.accepted,
            counts.quarantined,
            counts.blank,
        )
        pieces = sorted((accepted | refused | blank).items())
        assert b"".join(piece for _, piece in pieces) == raw


TestQuarantine = Quarantine.TestCase
TestQuarantine.settings = bounded(20)
