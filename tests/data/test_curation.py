"""Cleaning, splitting and redacting files: counts conserved, users on one side, nothing missed."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from trueup.cli import main
from trueup.data.reader import read

LONG = "tell me at length about the {} river and who lives beside it when winter comes to the valley"
EVALUATED = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"


def rows_in(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def file_of(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_each_row_stays_or_leaves_for_its_own_reason(tmp_path: Path) -> None:
    rows = [
        {"prompt": LONG.format("long"), "user": "a", "topic": "water"},
        {"prompt": LONG.format("long").upper() + "!", "user": "b"},
        {"prompt": "write to ann@example.org", "user": "b"},
        {"prompt": "say: " + EVALUATED, "user": "b"},
        {"prompt": LONG.format("long") + " once more", "user": "c"},
        {"prompt": "what do owls eat", "user": "d"},
        {"prompt": "why is the sea salt", "user": "d"},
        {"prompt": "call +49 30 901820", "user": "e"},
    ]
    source = file_of(tmp_path / "p.jsonl", rows)
    held = file_of(tmp_path / "eval.jsonl", [{"prompt": EVALUATED + " fifteen"}])
    out = tmp_path / "out"
    assert main(["data", "clean", source, "--out", str(out), "--against", held, "--per-user", "1"]) == 0
    gone = {line["row"]: line["reason"] for line in rows_in(out / "dropped.jsonl")}
    over = next(row for row in gone if row in (6, 7))
    assert gone == {
        2: "equal prompt",
        3: "personal data: email",
        4: "13-gram in eval",
        5: "near-duplicate",
        8: "personal data: phone",
        over: "over the cap of its user",
    }
    kept = rows_in(out / "kept.jsonl")
    assert len(kept) == 2
    assert kept[0]["meta"] == {"topic": "water"}
    counts = json.loads((out / "counts.json").read_text())
    assert counts["rows_in"] == 8 == counts["kept"] + sum(counts["dropped"].values())
    assert counts["dropped"] == Counter(gone.values())


def test_a_folder_in_use_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = file_of(tmp_path / "p.jsonl", [{"prompt": "what do owls eat"}])
    assert main(["data", "clean", source, "--out", str(tmp_path)]) != 0
    assert "E778" in capsys.readouterr().err
    assert not (tmp_path / "kept.jsonl").exists()


def test_what_is_redacted_stands_nowhere_in_the_folder(tmp_path: Path) -> None:
    mail = "ann.lee@example.org"
    rows = [{"prompt": f"{mail} or {mail.upper()}", "user": mail, "note": mail, "id": mail}]
    out = tmp_path / "out"
    assert (
        main(
            ["data", "clean", file_of(tmp_path / "p.jsonl", rows), "--out", str(out), "--personal", "redact"]
        )
        == 0
    )
    (row,) = rows_in(out / "kept.jsonl")
    assert row["prompt"][0]["content"] == "[EMAIL_1] or [EMAIL_1]"
    assert row["meta"] == {"note": "[EMAIL_1]"}
    assert not any(b"ann.lee" in path.read_bytes().lower() for path in out.iterdir())


def test_users_and_near_duplicates_stay_on_one_side(tmp_path: Path) -> None:
    draw = random.Random(3)
    words = [f"w{n}" for n in range(400)]
    rows = [{"prompt": " ".join(draw.choices(words, k=20)), "user": f"u{n % 60}"} for n in range(240)]
    rows += [{"prompt": rows[n]["prompt"] + " please", "user": f"v{n}"} for n in range(0, 40, 4)]
    source = file_of(tmp_path / "p.jsonl", rows)
    for name in ("one", "two"):
        assert main(["data", "split", source, "--out", str(tmp_path / name), "--seed", "5"]) == 0
    made = json.loads((tmp_path / "one" / "split.json").read_text())
    assert made == json.loads((tmp_path / "two" / "split.json").read_text())
    sides: dict[str, set[str]] = {}
    total = 0
    for side in ("train", "validation", "test"):
        groups = read(str(tmp_path / "one" / f"{side}.jsonl")).groups
        assert len(groups) == made["splits"][side]["groups"] > 0
        total += len(groups)
        for group in groups:
            for key in (f"user {group.user}", group.prompt[-1].content.removesuffix(" please")):
                sides.setdefault(key, set()).add(side)
    assert total == 250
    assert {len(held) for held in sides.values()} == {1}


def test_the_same_address_has_the_same_number_within_a_row(tmp_path: Path) -> None:
    rows = [
        {"messages": [{"role": "user", "content": "a@b.org, then c@d.org, A@B.org"}], "n": 3},
        {"messages": [{"role": "user", "content": "c@d.org from 8.8.8.8, +44 20 7946 0958"}], "n": 4},
    ]
    out = tmp_path / "r.jsonl"
    assert main(["data", "redact", file_of(tmp_path / "p.jsonl", rows), "--out", str(out)]) == 0
    first, second = rows_in(out)
    assert first == {
        "messages": [{"role": "user", "content": "[EMAIL_1], then [EMAIL_2], [EMAIL_1]"}],
        "n": 3,
    }
    assert second["messages"][0]["content"] == "[EMAIL_1] from [IP_1], [PHONE_1]"


def test_a_row_that_cannot_be_read_is_not_copied(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "p.jsonl"
    source.write_text('{"prompt": "hello"}\n{"prompt": "a@b.org\n', encoding="utf-8")
    assert main(["data", "redact", str(source), "--out", str(tmp_path / "r.jsonl")]) != 0
    assert "E779" in capsys.readouterr().err
    assert not (tmp_path / "r.jsonl").exists()
