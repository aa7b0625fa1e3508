"""The page of `make torture` says what was tried, what held, what got through, and under what."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import make_torture_page
from torture.__main__ import PARTS

UNDER = {
    "seed": 3,
    "day": "2026-01-02",
    "machine": "2 cores",
    "typed": "kills --of train --count 2",
    "note": "By hand.",
}
ROWS = (
    {"part": "kills", "of": "train", "at": 0, "held": True, "inside": True, "why": [], **UNDER},
    {"part": "kills", "of": "train", "at": 1, "held": False, "inside": False, "why": ["a differs"], **UNDER},
)
CASE = (
    '<testcase classname="tests.hostile.test_hostile" name="test_through_the_command_line[{}]">{}</testcase>'
)
JUNIT = "<testsuites><testsuite>{}{}</testsuite></testsuites>".format(
    CASE.format("folders", ""), CASE.format("inputs", "<failure/>")
)


def test_what_was_kept_is_what_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make_torture_page, "PAGE", tmp_path / "torture.md")
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (tmp_path / "tests.xml").write_text(JUNIT)
    make_torture_page.main(tmp_path / "rows.jsonl", [tmp_path / "tests.xml"])
    page = (tmp_path / "torture.md").read_text()
    assert "1 of 2 attacks held." in page
    assert "| `kills` | `train` | 2, 1 inside a save | 1 | all that the command leaves" in page
    assert "| 2 cases | 1 | each corpus as typed" in page
    assert "* `kills` of `train`, 1: a differs\n" in page
    assert "* `python -m torture kills --of train --count 2`, seed 3, 2026-01-02, 2 cores\n" in page
    # A note is part of the record, so a page that is written again has it, once.
    assert page.endswith("\n\nBy hand.\n") and page.count("By hand.") == 1


def test_every_part_says_what_it_compares() -> None:
    assert make_torture_page.COMPARED.keys() == PARTS.keys()
