"""Encoding traps: what bytes can do to a row is read right, or refused at the exact byte."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from data_rows import good_lines, line
from trueup.data import check, read, strict_json
from trueup.data.problems import Fault, Problem, printable, show
from trueup.data.raw_rows import LINE_CAP
from trueup.errors import TrueupError

BOM = b"\xef\xbb\xbf"


def texts(path: Path, **options: str) -> list[str]:
    return [group.prompt[0].content for group in read(path, **options).groups]


# Characters at which `str.splitlines` breaks a line, and others that tempt readers.
INSIDE = [
    *("\u2028", "\u2029", "\u0085", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\r", "\ufeff", "\u200b"),
    *("\u202e", "\U0001f600", "e\u0301", "\ufffd", "\x7f", "\x9b"),
]


@pytest.mark.parametrize("char", INSIDE, ids=ascii)
@pytest.mark.parametrize("escaped", [False, True])
def test_a_character_inside_a_string_neither_splits_nor_changes(
    char: str, escaped: bool, tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    raw = json.dumps({"prompt": f"a{char}b"}, ensure_ascii=escaped).encode()
    path.write_bytes(raw + b"\n" + line({"prompt": "second"}))
    assert texts(path) == [f"a{char}b", "second"]
    path = tmp_path / "rows.json"
    path.write_bytes(b"[" + raw + b",\n" + line({"prompt": "second"}) + b"]")
    assert texts(path) == [f"a{char}b", "second"]


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".ndjson", ".jsonl.gz", ".json.gz"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\n\n", b"\r\n  \t\r\n", b" \n"])
@pytest.mark.parametrize("bom", [b"", BOM])
def test_line_ends_blank_lines_and_byte_order_mark(
    suffix: str, end: bytes, bom: bytes, tmp_path: Path
) -> None:
    path = tmp_path / f"rows{suffix}"
    raw = bom + end.join(b'{"prompt": "q%d"}' % i for i in range(3))
    path.write_bytes(gzip.compress(raw) if suffix.endswith("gz") else raw)
    assert texts(path) == ["q0", "q1", "q2"]
    notes = check(path).counts.notes
    assert ("a byte order mark at the start was passed over" in notes) == bool(bom)


@pytest.mark.parametrize(
    ("raw", "code", "offset"),
    [
        (b'{"prompt": "\xff"}', "E101", 12),
        (b'{"prompt": "\xc0\xaf"}', "E101", 12),
        (b'{"prompt": "\xed\xa0\x80"}', "E101", 12),
        (b'{"prompt": "\xf4\x90\x80\x80"}', "E101", 12),
        (b'{"prompt": "\xe2\x82"}', "E101", 12),
        (b'{"prompt": "\x00"}', "E107", 12),
        (b'{"prompt": "\\u0000"}', "E107", 0),
        (b'{"prompt": "\\ud800"}', "E108", 0),
        (b'{"prompt": "\\udc00\\ud800"}', "E108", 0),
        (b'{"prompt": "q", "\\udfff": 1}', "E108", 0),
        (b'{"prompt": "q", "a": NaN}', "E105", 0),
        (b'{"prompt": "q", "a": -Infinity}', "E105", 0),
        (b'{"prompt": "q", "a": [1e400]}', "E105", 0),
        (b'{"prompt": "q", "a": ' + b"1" * 5000 + b"}", "E105", 0),
        (b'{"prompt": "q", "prompt": "q"}', "E104", 0),
        (b'{"prompt": "q", "a": {"b": 1, "b": 1}}', "E104", 0),
        (b'{"prompt": "q", "a": ' + b'{"a":' * 70 + b"1" + b"}" * 71, "E106", 0),
        (b'{"prompt": "\\x41"}', "E103", 12),
        (b'{"prompt": "a\tb"}', "E103", 13),
        (b'{"prompt": "q"', "E103", 14),
        (b'{"prompt": q}', "E103", 11),
        (b'{prompt: "q"}', "E103", 1),
        (b'{"prompt": "q",}', "E103", 14),
        (b'{"prompt": "q"}}', "E103", 15),
        (b'{"prompt": 01}', "E103", 12),
        (b'{"prompt": "q"} // no', "E103", 16),
        ("{“prompt”: 1}".encode(), "E103", 1),
        (b"True", "E103", 0),
        (b'"q"', "E201", 0),
        (b"[]", "E201", 0),
        (b"17", "E201", 0),
    ],
)
def test_a_bad_row_is_refused_at_its_byte(raw: bytes, code: str, offset: int, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(line({"prompt": "é"}) + raw + b"\r\n" + line({"prompt": "last"}))
    report = check(path)
    assert [(p.code, p.line, p.byte) for p in report.problems] == [
        (code, 2, len(line({"prompt": "é"})) + offset)
    ]
    assert report.counts.accepted == 2


def test_a_surrogate_pair_and_large_integers_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"prompt": "\\ud83d\\ude00", "n": 123456789012345678901234567890, "s": "\\\\ud800"}\n')
    (group,) = read(path).groups
    assert group.prompt[0].content == "\U0001f600"
    assert group.meta == {"n": 123456789012345678901234567890, "s": "\\ud800"}


def test_a_row_over_the_cap_is_quarantined_and_the_next_is_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"prompt": "' + b"x" * LINE_CAP + b'"}\n' + line({"prompt": "small"}))
    report = check(path)
    assert [(p.code, p.line) for p in report.problems] == [("E109", 1)]
    assert report.counts.accepted == 1


@pytest.mark.parametrize("cut", [1, 8, 20, 60])
def test_a_cut_gzip_is_never_half_read(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    whole = gzip.compress(b"".join(good_lines("prompts", 500)))
    path.write_bytes(whole[:-cut])
    with pytest.raises(TrueupError, match="E110"):
        read(path)
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 0xFF
    path.write_bytes(bytes(damaged))
    with pytest.raises(TrueupError, match="E110"):
        read(path)


def test_csv_cells_hold_commas_quotes_and_line_breaks(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(
        BOM + b'prompt,completion,label\r\n"a, ""b""\nc",d,true\r\n5" pipe,x,0\r\n\r\n"",y,1\r\n"open,z,1\r\n'
        b'p,"q"r,1\r\np,q\r\nlast,"x\xe2\x80\xa8",1'
    )
    report = check(path)
    assert report.format == "unpaired"
    assert [(p.code, p.line) for p in report.problems] == [
        ("E306", 6),
        ("E115", 7),
        ("E115", 8),
        ("E115", 9),
    ]
    raw = path.read_bytes()
    assert [raw[p.byte : p.byte + 4] for p in report.problems] == [b'"",y', b'"ope', b'p,"q', b"p,q\r"]
    path.write_bytes(b'prompt,completion,label\n"a, ""b""\nc",d,true\n5" pipe,x,0\nlast,"x\xe2\x80\xa8",1')
    groups = read(path).groups
    assert [g.prompt[0].content for g in groups] == ['a, "b"\nc', '5" pipe', "last"]
    assert groups[2].completions[0].text == "x\u2028"
    assert [g.scores[0].value for g in groups] == [1.0, 0.0, 1.0]


def test_lists_in_csv_cells_are_json(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('question,prediction 1,prediction 2,preference\nq,a,b,[2]\nq,c,d,"[1, 0]"\nq,e,f,[x]\n')
    report = check(path)
    assert report.format == "ranking" and report.counts.accepted == 1
    assert [(p.code, p.line, p.field) for p in report.problems] == [
        ("E407", 3, "preference"),
        ("E103", 4, "preference"),
    ]


def test_messages_are_safe_to_print() -> None:
    problem = Problem(
        code="E205", file="a\x1b[31m\n.jsonl", line=1, byte=0, field="x\r", reason="r", found="f", remedy="m"
    )
    assert not set(str(problem)) & set("\x1b\n\r")
    assert printable("a\u202eb\u2028\x9b") == "a\\u202eb\\u2028\\u009b"
    for value in (
        "x" * 500,
        "\x1b[2J\u202e" * 50,
        {"k" * 300: 1},
        [1] * 9,
        10**400,
        1e300,
        None,
        True,
        object(),
    ):
        assert len(show(value)) <= 120 and show(value).isprintable()


def test_depth_is_counted_not_felt() -> None:
    assert strict_json.loads(b"[" * 64 + b"]" * 64)
    with pytest.raises(Fault) as caught:
        strict_json.loads(b"[" * 65 + b"]" * 65)
    assert caught.value.code == "E106"
