"""Files, folders, saved datasets, tables and Hugging Face ids; names that lead elsewhere are refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest
from pyarrow import parquet

from data_rows import SHAPES, format_of, good_lines, good_row, line
from trueup.data import check, places, read, read_rows
from trueup.data.tables import table_row
from trueup.errors import TrueupError


def prompts(path: Path | str, **options: Any) -> list[str]:
    return [group.prompt[0].content for group in read(path, **options).groups]


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape not in ("ranking", "alpaca")])
@pytest.mark.parametrize("kind", ["parquet", "stream", "file"])
def test_a_table_gives_the_groups_of_the_lines(shape: str, kind: str, tmp_path: Path) -> None:
    rows = [good_row(shape, i) for i in range(5)]
    lines = tmp_path / "rows.jsonl"
    lines.write_bytes(b"".join(map(line, rows)))
    table = pa.Table.from_pylist(rows)
    path = tmp_path / ("rows.parquet" if kind == "parquet" else "rows.arrow")
    if kind == "parquet":
        parquet.write_table(table, path)
    else:
        new = pa.ipc.new_stream if kind == "stream" else pa.ipc.new_file
        with new(path, table.schema) as file:
            file.write_table(table)
    ours, theirs = read(path), read(lines)
    assert ours.format == theirs.format == format_of(shape)
    assert [(g.prompt, g.pairs(), g.scores) for g in ours.groups] == [
        (g.prompt, g.pairs(), g.scores) for g in theirs.groups
    ]


def test_rows_that_are_no_file_are_checked_and_counted_like_one(tmp_path: Path) -> None:
    """`read_rows` is what `read` does behind the file: same groups, same fault, same quarantine."""
    rows = [{**good_row("preference chat", i), "none": None} for i in range(3)]
    rows += [{"prompt": "q", "chosen": "a"}]
    made = [table_row("frame", number, row) for number, row in enumerate(rows, 1)]
    result = read_rows(iter(made), "frame", max_bad=0.5, quarantine=tmp_path / "bad.jsonl")
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"".join(map(line, rows)))
    wanted = read(path, max_bad=0.5)
    assert [(g.prompt, g.pairs(), g.meta) for g in result.groups] == [
        (g.prompt, g.pairs(), g.meta) for g in wanted.groups
    ]
    assert (result.format, result.why, result.counts) == (wanted.format, wanted.why, wanted.counts)
    place = f"rows.jsonl:4:{wanted.problems[0].byte}"
    assert str(result.problems[0]) == str(wanted.problems[0]).replace(place, "frame:4")
    (bad,) = (tmp_path / "bad.jsonl").read_text("utf-8").splitlines()
    assert json.loads(json.loads(bad)["raw"]) == {"prompt": "q", "chosen": "a"}
    with pytest.raises(TrueupError, match=r"E601 frame — 1 of 4 rows are bad"):
        read_rows(made, "frame")
    with pytest.raises(TrueupError, match=r"E602 frame — no rows"):
        read_rows([], "frame")
    assert read_rows([], "frame", max_bad=None).counts.rows_in == 0


def test_a_table_fills_missing_keys_with_null_and_we_take_them_out(tmp_path: Path) -> None:
    rows = [good_row("chat", 0), {"messages": [{"role": "user", "content": "q", "name": "x"}], "extra": 1.5}]
    path = tmp_path / "rows.parquet"
    parquet.write_table(pa.Table.from_pylist([*rows, good_row("chat", 2)]), path)
    report = check(path)
    assert [(p.code, p.line, p.byte) for p in report.problems] == [("E302", 2, -1)]
    assert str(report.problems[0]).startswith("E302 rows.parquet:2 messages — no assistant turn")
    parquet.write_table(pa.table({"prompt": ["a", None], "n": [float("nan"), 1.0]}), path)
    (problem,) = check(path).problems
    assert (problem.code, problem.field, problem.line) == ("E203", "prompt", 2)


def test_a_damaged_table_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    parquet.write_table(pa.table({"prompt": ["a"] * 100}), path)
    raw = path.read_bytes()
    for cut in (b"", b"PAR1", raw[:-9], raw[len(raw) // 2 :], b"x" * 40):
        for suffix in (".parquet", ".arrow"):
            path = tmp_path / f"cut{suffix}"
            path.write_bytes(cut)
            with pytest.raises(TrueupError, match=r"E113 .*damaged"):
                read(path)


def test_a_folder_is_read_by_split(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train-00001.jsonl").write_bytes(line({"prompt": "b"}))
    (tmp_path / "data" / "train-00000.jsonl").write_bytes(line({"prompt": "a"}))
    (tmp_path / "dev.jsonl").write_bytes(line({"prompt": "v"}))
    (tmp_path / "README.md").write_text("no data")
    (tmp_path / ".hidden.jsonl").write_text("no data")
    assert prompts(tmp_path) == ["a", "b"]
    assert prompts(tmp_path, split="validation") == ["v"]
    with pytest.raises(TrueupError, match=r"E102 .*no 'test' split \(found: train, validation\)"):
        read(tmp_path, split="test")
    report = check(tmp_path)
    assert report.counts.rows_in == 2


def test_a_folder_whose_files_name_no_split_is_all_train(tmp_path: Path) -> None:
    for name in ("x.jsonl", "a.json"):
        (tmp_path / name).write_bytes(line({"prompt": name}))
    assert prompts(tmp_path) == ["a.json", "x.jsonl"]
    with pytest.raises(TrueupError, match="E102"):
        read(tmp_path, split="test")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(TrueupError, match="no data file"):
        read(empty)


def test_saved_datasets_are_read_without_their_library(tmp_path: Path) -> None:
    train = datasets.Dataset.from_list([good_row("preference chat", i) for i in range(4)])
    test = datasets.Dataset.from_list([{"prompt": "only"}])
    train.save_to_disk(tmp_path / "one")
    assert read(tmp_path / "one").counts.accepted == 4
    train.select([2, 0]).save_to_disk(tmp_path / "some")
    assert prompts(tmp_path / "some") == ["question 2", "question 0"]
    datasets.DatasetDict({"train": train, "test": test}).save_to_disk(tmp_path / "two")
    assert read(tmp_path / "two").counts.accepted == 4
    assert prompts(tmp_path / "two", split="test") == ["only"]
    with pytest.raises(TrueupError, match=r"E102 .*found: train, test"):
        read(tmp_path / "two", split="dev")


def test_a_saved_dataset_cannot_point_outside(tmp_path: Path) -> None:
    secret = tmp_path / "secret.jsonl"
    secret.write_bytes(line({"prompt": "secret"}))
    folder = tmp_path / "saved"
    folder.mkdir()
    names = ["../secret.jsonl", str(secret), "a/../../secret.jsonl", "link.jsonl", "x\x00", "a" * 5000, ".."]
    (folder / "link.jsonl").symlink_to(secret)
    for name in names:
        (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
        with pytest.raises(TrueupError) as caught:
            read(folder)
        assert caught.value.code in ("E112", "E102", "E113"), name
    for state in ("[]", "{", '{"_data_files": 3}', '{"_data_files": [3]}', '{"_data_files": [{}]}', "\xff"):
        (folder / "state.json").write_text(state)
        with pytest.raises(TrueupError):
            read(folder)
    (folder / "state.json").unlink()
    with pytest.raises(TrueupError, match="E112"):
        read(folder)
    (folder / "dataset_dict.json").write_text('{"splits": ["..", "train"]}')
    with pytest.raises(TrueupError, match="E112"):
        read(folder, split="..")


HOSTILE = [
    *("", "\x00", "a\x00b.jsonl", "\ud800", "/dev/zero", "/dev/null", "/proc/self/mem", "a" * 5000),
    *("../../../../etc/passwd", "/etc/passwd", "~nobody/x.jsonl", "-", "--format", "con:", "a/b/c", "a//b"),
    *("./a", "..", "../..", "a/..", "a/../b", ".hidden/x", "owner/name/extra", "owner/", "/owner", "$(id)"),
    *("https://example.com/a.jsonl", "file:///etc/passwd", "s3://bucket/key", "`id`", "%s%n", "a;b"),
    *("a\nb", "a\x1b[2Jb.jsonl", "\u202egnp.jsonl", "rows.jsonl/x", "rows.jsonl\x00.gz", "ROWS.TXT"),
    *("rows.zip", "rows.pkl", "rows.pt"),
]


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_hostile_names_end_in_one_error(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_bytes(b"".join(good_lines("prompts", 2)))
    with pytest.raises(TrueupError) as caught:
        read(name)
    assert caught.value.code in ("E102", "E111", "E112", "E114")
    assert str(caught.value).isprintable()
    assert caught.value.remedy


def test_pipes_are_refused_and_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "rows.jsonl")
    with pytest.raises(TrueupError, match=r"E112 .*not a regular file"):
        read(tmp_path / "rows.jsonl")


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "prefs.jsonl").touch()
    with pytest.raises(TrueupError, match=r"E102 .*no such file — did you mean .*prefs.jsonl\?") as caught:
        read(tmp_path / "pref.jsonl")
    assert caught.value.exit_code == 66


def test_a_hub_id_that_cannot_be_loaded_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)

    def fail(*args: Any, **options: Any) -> Any:
        raise ConnectionError("offline\nmode is on")

    monkeypatch.setattr(places, "unanswered", str)  # the hub answers
    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(
        TrueupError, match=r"E114 owner/name — .*ConnectionError: offline\\u000amode"
    ) as caught:
        read("owner/name")
    assert caught.value.exit_code == 69 and "HF_HUB_OFFLINE" in caught.value.remedy


def test_a_hub_id_is_loaded_without_running_its_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    asked: list[Any] = []

    def load(*args: Any, **options: Any) -> Any:
        asked.append((args, options))
        return datasets.Dataset.from_list([good_row("chat", i) for i in range(3)])

    monkeypatch.setattr(places, "unanswered", str)
    monkeypatch.setattr(datasets, "load_dataset", load)
    result = read("owner/name:main", split="test")
    assert asked == [(("owner/name", "main"), {"split": "test"})]
    assert result.format == "chat" and result.groups[2].id == "owner/name:main:3"
    assert result.groups[0].source == "owner/name:main"


def test_data_needs_no_torch_and_loads_tables_only_when_asked() -> None:
    code = (
        "import sys, trueup.data, trueup.data.hygiene, trueup.data.similar; "
        "print([name for name in ('torch', 'datasets', 'pyarrow', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
