"""Every planted defect is reported alone, at its line and byte, with its golden message."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from data_rows import DEFECTS, SHAPES, format_of, good_lines
from trueup.data import check, read
from trueup.errors import TrueupError

GOLDEN = (Path(__file__).parent / "defects.txt").read_text(encoding="utf-8").splitlines()
NUM_GOOD = 12


def test_the_corpus_is_large_enough() -> None:
    assert len(DEFECTS) == len(GOLDEN) >= 40


@pytest.mark.parametrize("number", range(len(DEFECTS)))
def test_a_defect_is_named_with_its_place_and_remedy(number: int, tmp_path: Path) -> None:
    shape, raw = DEFECTS[number]
    code, offset, message = GOLDEN[number].split(" ", 2)
    good = good_lines(shape, NUM_GOOD)
    at = random.Random(number).randint(1, NUM_GOOD)
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"".join(good[:at]) + raw + b"".join(good[at:]))
    byte = sum(map(len, good[:at])) + int(offset)

    report = check(path, quarantine=tmp_path / "bad.jsonl")
    assert report.format == format_of(shape)
    assert [str(problem) for problem in report.problems] == [f"{code} rows.jsonl:{at + 1}:{byte} {message}"]
    counts = report.counts
    assert (counts.rows_in, counts.accepted, counts.quarantined) == (NUM_GOOD + 1, NUM_GOOD, 1)
    assert json.loads((tmp_path / "bad.jsonl").read_bytes())["line"] == at + 1

    with pytest.raises(TrueupError) as caught:
        read(path)
    assert caught.value.code == "E601"
    assert f"E601 {path} — 1 of 13 rows are bad (7.7%; the limit is 1.0%): 1 x {code}" in str(caught.value)
    assert len(read(path, max_bad=0.1).groups) >= NUM_GOOD


def test_the_shape_of_a_message() -> None:
    found = [line for line in GOLDEN if line.startswith("E203 0 rejected")]
    assert found == [
        "E203 0 rejected — is missing (found: keys prompt, chosen) — "
        'add "rejected", or name the format with --format'
    ]


@pytest.mark.parametrize("shape", SHAPES)
def test_no_false_alarm(shape: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"".join(good_lines(shape, 400)))
    report = check(path)
    assert report.ok and report.format == format_of(shape) and report.counts.accepted == 400


def test_all_defects_of_a_format_in_one_file(tmp_path: Path) -> None:
    """Bad rows do not hide each other: 20 in one file give 20 problems in the order of the file."""
    lines = good_lines("preference", 40)
    bad = [raw for shape, raw in DEFECTS if shape == "preference"][:20]
    for k, raw in enumerate(bad):
        lines.insert(2 * k + 1, raw)
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"".join(lines))
    report = check(path)
    assert [problem.line for problem in report.problems] == [2 * k + 2 for k in range(20)]
    assert report.counts.rows_in == 60


def test_the_report_for_people_and_for_programs(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"".join(good_lines("preference", 3)) + b"\n" + b'{"prompt": "q", "chosen": "a"}\n')
    report = check(path)
    assert report.render() == (
        f"{path}: preference (3 of 4 rows have prompt, chosen, rejected)\n"
        "rows in 4 = accepted 3 + quarantined 1; 1 blank line\n"
        "note: chosen is longer in 3 of 3 pairs (100%), shorter in 0\n"
        "E203 rows.jsonl:5:241 rejected — is missing (found: keys prompt, chosen) — "
        'add "rejected", or name the format with --format'
    )
    assert report.render(limit=0).endswith("... and 1 more bad row")
    assert json.loads(json.dumps(report.to_json()))["problems"][0]["code"] == "E203"


FILES: tuple[tuple[str, bytes, str], ...] = (
    ("a.jsonl", b"", "E602 {path} — no rows — the file is empty: check the path"),
    (
        "a.jsonl",
        b'{"question": "q", "answer": "a"}\n',
        "E202 {path} — no known format has these fields (found: question, answer) — "
        "say which column is which, perhaps --columns.prompt question --columns.completion answer",
    ),
    (
        "a.jsonl",
        b'{"prompt": "q", "choosen": "a", "rejected": "b"}\n',
        "E202 {path} — no known format has these fields (found: prompt, choosen, rejected) — "
        'say which column is which, perhaps --columns.chosen choosen',
    ),
    (
        "a.jsonl",
        b'{"prompt": "q", "completion": "a", "chosen": "a", "rejected": "b"}\n',
        "E204 {path} — the format is ambiguous: 1 like preference or prompt-completion — "
        "name it: --format preference or --format prompt-completion",
    ),
    (
        "a.jsonl",
        b'{"prompt": "q", "completion": "a"}\n{"text": "t"}\n',
        "E204 {path} — the format is ambiguous: 1 row looks like prompt-completion; 1 row looks like text — "
        "name it: --format prompt-completion or --format text",
    ),
    (
        "a.jsonl",
        b'[{"prompt": "q"}]',
        "E118 a.jsonl:1 — the file is one JSON array, not one object a line — end its name in .json",
    ),
    (
        "a.json",
        b'[{"prompt": "q"},\n{"prompt": "r"]',
        "E118 a.json:2 — not a JSON array of rows: the brackets do not match after line 2; the rows behind "
        "it cannot be told apart — mend that row, or export the file as .jsonl (one object a line)",
    ),
    (
        "a.json",
        b'[{"prompt": "q"},\n{"prompt": "r"}',
        "E118 a.json:2 — not a JSON array of rows: the array is never closed after line 2; the rows behind "
        "it cannot be told apart — mend that row, or export the file as .jsonl (one object a line)",
    ),
    (
        "a.jsonl",
        b'\xff\xfe{\x00"\x00',
        "E101 a.jsonl — the file is UTF-16, not UTF-8 — convert it: `iconv -f utf-16 -t utf-8 OLD > NEW`",
    ),
    (
        "a.txt",
        b"text",
        "E111 a.txt — unknown kind of file — use .jsonl, .json, .ndjson, .csv, .tsv, .jsonl.gz, .json.gz, "
        ".ndjson.gz, .csv.gz, .tsv.gz, .parquet, .arrow",
    ),
    (
        "a.csv",
        b"prompt,prompt\na,b\n",
        "E115 a.csv:1 — the header: it names a column twice or not at all (found: \"prompt,prompt\") — "
        "the first line of a CSV file must name every column once",
    ),
    (
        "a.jsonl.gz",
        b"not gzip at all",
        "E110 a.jsonl.gz — the compressed file is damaged or cut off (Not a gzipped file (b'no')) — "
        "copy or download it again; nothing was read",
    ),
)  # fmt: skip


@pytest.mark.parametrize("number", range(len(FILES)))
def test_a_file_that_cannot_be_read_says_why(number: int, tmp_path: Path) -> None:
    name, raw, golden = FILES[number]
    path = tmp_path / name
    path.write_bytes(raw)
    with pytest.raises(TrueupError) as caught:
        read(path)
    assert str(caught.value) == golden.format(path=path)
    assert caught.value.exit_code in (65, 66)


def test_too_many_bad_rows_stop_and_a_few_do_not(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"".join(good_lines("prompts", 199)) + b"{}\n")
    assert read(path).counts.quarantined == 1
    path.write_bytes(b"".join(good_lines("prompts", 98)) + b"{}\n{}\n")
    with pytest.raises(TrueupError, match=r"E601 .*2 of 100 rows are bad \(2.0%; the limit is 1.0%\)"):
        read(path)
    with pytest.raises(TrueupError, match="E701"):
        read(path, max_bad=2.0)
