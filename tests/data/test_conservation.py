"""Nothing is lost: rows in = accepted + quarantined, and together they are the file again."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest

from data_rows import DEFECTS, SHAPES, good_lines
from trueup.data import check
from trueup.data.places import rows_of
from trueup.data.quarantine import original_bytes
from trueup.errors import TrueupError


def corrupted(rng: random.Random) -> bytes:
    """Lines of random origin, some good, some planted, some damaged byte by byte."""
    shape = rng.choice(SHAPES)
    lines = good_lines(shape, rng.randint(3, 12))
    for _ in range(rng.randint(0, 6)):
        kind = rng.randrange(4)
        at = rng.choice([i for i, item in enumerate(lines) if item])
        if kind == 0:
            lines.insert(at, rng.choice(DEFECTS)[1])
        elif kind == 1:
            raw = bytearray(lines[at])
            raw[rng.randrange(len(raw))] = rng.randrange(256)
            lines[at] = bytes(raw)
        elif kind == 2:
            lines[at] = lines[at][: rng.randrange(len(lines[at]))]
        else:
            lines.insert(at, rng.choice([b"\n", b"  \r\n", b"\x00\n", b"\xff\xfe\n", b"{}\n"]))
    return b"".join(lines)


def test_accepted_and_quarantined_rows_are_the_file_again(tmp_path: Path) -> None:
    """1,000 random corrupt files: the counts add up, and the bytes joined have the file's SHA-256."""
    rng = random.Random(0)
    checked = with_bad_rows = 0
    for number in range(1000):
        path, bad = tmp_path / f"{number}.jsonl", tmp_path / f"{number}.bad"
        raw = corrupted(rng)
        path.write_bytes(raw)
        try:
            report = check(path, quarantine=bad)
        except TrueupError as error:
            assert error.code in ("E101", "E118", "E202", "E204"), error
            continue
        checked += 1
        counts = report.counts
        rows = list(rows_of(path, "train"))
        refused = original_bytes(bad)
        with_bad_rows += bool(refused)
        places = {byte for _, _, byte, _ in refused}
        accepted = [(row.byte, row.raw) for row in rows if row.byte not in places and not row.blank]
        blank = [(row.byte, row.raw) for row in rows if row.blank]
        assert counts.rows_in == counts.accepted + counts.quarantined
        found = (len(accepted), len(refused), len(blank))
        assert found == (counts.accepted, counts.quarantined, counts.blank)
        pieces = sorted([*accepted, *blank, *((byte, piece) for _, _, byte, piece in refused)])
        assert hashlib.sha256(b"".join(piece for _, piece in pieces)).digest() == hashlib.sha256(raw).digest()
    assert checked > 700 and with_bad_rows > 400


@pytest.mark.parametrize("suffix", [".json", ".csv"])
def test_the_quarantine_holds_the_bytes_of_elements_and_records(suffix: str, tmp_path: Path) -> None:
    path, bad = tmp_path / f"rows{suffix}", tmp_path / "bad.jsonl"
    if suffix == ".json":
        raw = b'[ {"prompt": "a"},\n {"prompt": "\xff"} ,{"prompt": "b"}, {"prompt": 1}\n]\n'
        wanted = [b'{"prompt": "\xff"}', b'{"prompt": 1}']
    else:
        raw = b'prompt,id\na,1\n"\xff\nx",2\nb\nc,3\n'
        wanted = [b'"\xff\nx",2\n', b"b\n"]
    path.write_bytes(raw)
    report = check(path, quarantine=bad)
    assert [piece for *_, piece in original_bytes(bad)] == wanted
    assert [raw[byte : byte + len(piece)] for _, _, byte, piece in original_bytes(bad)] == wanted
    assert report.counts.accepted == 2


def test_a_planted_defect_is_found_at_any_line_of_a_long_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rng = random.Random(1)
    good = good_lines("preference", 3000)
    for raw in (b"{\n", b'{"prompt": "q", "chosen": "a"}\n'):
        at = rng.randrange(1, 3000)
        path.write_bytes(b"".join(good[:at]) + raw + b"".join(good[at:]))
        (problem,) = check(path).problems
        assert problem.line == at + 1
        assert 0 <= problem.byte - sum(map(len, good[:at])) <= 1
