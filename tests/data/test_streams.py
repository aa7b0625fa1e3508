"""Files larger than memory: what is held of one while it is read, that its rows are those of a small one."""

from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import trueup
from data_rows import good_lines
from trueup.cli import main
from trueup.data import check, raw_rows, read, tables, write, writer
from trueup.data.places import rows_of
from trueup.engine.groups import Group
from trueup.errors import TrueupError

ARRAY = (
    b'\xef\xbb\xbf [\n {"prompt": "a \\"]} , {[", "meta": [1, {"b": "]"}]} ,\n\n{"prompt":\n"\xc3\xa9\\\\"},'
    b'{"prompt": 3}\n]\n tail [1]\n'
)
FOLLOWING = b'{\n"prompt": "}"\n}\n{"prompt": "b\\\\"}  {"prompt": "c"}\n'


@pytest.mark.parametrize("block", [1, 2, 3, 5, 8, 13, 2**20])
def test_elements_are_cut_alike_however_the_bytes_come(
    block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raw_rows, "_BLOCK", block)
    path = tmp_path / "rows.json"
    path.write_bytes(ARRAY)
    *rows, tail = rows_of(path, "train")
    assert [(row.line, row.raw) for row in rows] == [
        (2, b'{"prompt": "a \\"]} , {[", "meta": [1, {"b": "]"}]}'),
        (4, b'{"prompt":\n"\xc3\xa9\\\\"}'),
        (5, b'{"prompt": 3}'),
    ]
    assert [row.byte for row in (*rows, tail)] == [ARRAY.index(row.raw) for row in (*rows, tail)]
    assert (tail.line, tail.raw) == (7, b"tail [1]")
    assert tail.fault is not None and tail.fault.code == "E118"
    path.write_bytes(FOLLOWING)
    rows = list(rows_of(path, "train"))
    assert [(row.line, row.raw) for row in rows] == [
        (1, b'{\n"prompt": "}"\n}'),
        (4, b'{"prompt": "b\\\\"}'),
        (4, b'{"prompt": "c"}'),
    ]
    assert [row.byte for row in rows] == [FOLLOWING.index(row.raw) for row in rows]


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b'[{"prompt": "a"},\n{"prompt": "cut ] off', "rows.json:2 .*the array is never closed"),
        (b'[{"prompt": "a"},\n{"prompt": ["b"}]', "rows.json:2 .*the brackets do not match"),
        (b'{\n"prompt": "a"}\n{\n"prompt": {', "rows.json:3 .*an object is never closed"),
    ],
)
@pytest.mark.parametrize("block", [1, 7, 2**20])
def test_what_cannot_be_cut_is_named_by_its_line(
    block: int, raw: bytes, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raw_rows, "_BLOCK", block)
    (tmp_path / "rows.json").write_bytes(raw)
    with pytest.raises(TrueupError, match=f"E118 {said}"):
        list(rows_of(tmp_path / "rows.json", "train"))


def test_an_array_is_held_a_row_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cap is on a row: an array of many times its size is read, and a row above it ends the reading."""
    monkeypatch.setattr(raw_rows, "_BLOCK", 64)
    monkeypatch.setattr(raw_rows, "_HARD_CAP", 512)
    path = tmp_path / "rows.json"
    rows = [{"prompt": f"what is {i}?", "completion": "x" * (1 + i % 90)} for i in range(400)]
    path.write_text(json.dumps(rows, indent=1))
    assert path.stat().st_size > 50 * 512
    assert check(path).counts.accepted == 400
    path.write_text(json.dumps([*rows, {"prompt": "x" * 600}], indent=1))
    with pytest.raises(TrueupError, match=r"E109 rows\.json:1602 — a row of more than 512 bytes"):
        check(path)


def test_a_large_arrow_batch_is_made_rows_a_piece_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pa.table({"prompt": [f"p{i}" for i in range(5000)], "completion": ["a"] * 5000})
    with pa.OSFile(str(tmp_path / "rows.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as file:
        file.write_table(table)
    made: list[int] = []
    plain = tables.table_row
    monkeypatch.setattr(tables, "table_row", lambda *said: made.append(said[1]) or plain(*said))
    sizes = [batch.num_rows for batch in tables._batches(pa, tmp_path / "rows.arrow")]
    assert sizes == [1024, 1024, 1024, 1024, 904]
    first = next(rows := tables.table_rows(tmp_path / "rows.arrow", "rows.arrow"))
    assert (first.line, first.values, made) == (1, {"prompt": "p0", "completion": "a"}, [1])
    assert [row.values["prompt"] for row in rows] == [f"p{i}" for i in range(1, 5000)]


def test_packed_rows_come_as_they_are_unpacked(tmp_path: Path) -> None:
    """The first row is there while the rest of the archive, here damaged, has not been read."""
    import gzip

    lines = b"".join(good_lines("preference", 30_000))
    packed = bytearray(gzip.compress(lines, 1))
    packed[-2000] ^= 0xFF
    (tmp_path / "rows.jsonl.gz").write_bytes(packed)
    rows = rows_of(tmp_path / "rows.jsonl.gz", "train")
    assert [next(rows).line for _ in range(100)] == list(range(1, 101))
    with pytest.raises(TrueupError, match="E110"):
        list(rows)


@pytest.mark.parametrize(
    ("suffix", "by"), [(".jsonl", "command"), (".parquet", "command"), (".jsonl", "api")]
)
def test_a_file_is_converted_a_few_rows_at_a_time(
    suffix: str, by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """To the bytes of writing all groups at once, with few groups alive."""
    source, target = tmp_path / "rows.jsonl", tmp_path / f"made{suffix}"
    source.write_bytes(b"".join([*good_lines("preference", 1500), b"{bad\n"]))
    expected = tmp_path / f"expected{suffix}"
    assert write(expected, read(source).groups) == 1500
    alive: list[int] = []
    plain = writer._line

    def counted(group: Group, number: int) -> Any:
        if number % 700 == 0:
            gc.collect()
            alive.append(sum(type(held) is Group for held in gc.get_objects()))
        return plain(group, number)

    monkeypatch.setattr(writer, "_line", counted)
    if by == "api":
        made = trueup.convert(source, target)
        assert (made.counts.groups, made.counts.quarantined, made.groups) == (1500, 1, [])
        assert made.problems[0].code == "E103" and target.with_suffix(".quarantine.jsonl").exists()
    else:
        assert main(["data", "convert", str(source), str(target)]) == 0
        assert capsys.readouterr().out == f"1500 groups written to {target}, 1 row quarantined\n"
    assert target.read_bytes() == expected.read_bytes()
    assert len(alive) == 2 and max(alive) < 100
