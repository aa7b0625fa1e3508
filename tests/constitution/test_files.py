"""The constitutions that come along, and what is wrong with others; rows that are kept as they come."""

from __future__ import annotations

from pathlib import Path

import pytest

from trueup.constitution.journal import Journal
from trueup.constitution.principles import FILES, read_constitution
from trueup.errors import TrueupError


@pytest.mark.parametrize("name", ["lab", *sorted(path.stem for path in FILES.glob("*.yaml"))])
def test_a_constitution_holds_sixteen_of_each_and_no_wording_twice(name: str) -> None:
    found = read_constitution(name)
    assert found.name == name and len(found.corrections) == len(found.criteria) == 16
    wordings = [t for c in found.corrections for t in (c.critique, c.revision)]
    wordings += [c.text for c in found.criteria]
    assert len(set(wordings)) == 48
    assert {c.better for c in found.contests} == {"first", "second"}, "no place wins every example"


def test_what_is_wrong_with_a_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(TrueupError, match="E801"):
        read_constitution("nowhere")
    path = tmp_path / "c.yaml"
    good = "{id: a, critique: b, revision: c}"
    for text, code in (
        ("name: x\ncorrections: []\ncriteria: [{id: a, text: b}]", "E715"),
        (f"name: x\ncorrections: [{good}, {good}]\ncriteria: [{{id: a, text: b}}]", "E715"),
        (f"name: x\ncorrections: [{good}]", "E713"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(TrueupError, match=code):
            read_constitution(str(path))


def test_a_journal_goes_on_after_whole_batches_and_refuses_other_rows(tmp_path: Path) -> None:
    journal = Journal(path=tmp_path / "rows.jsonl", total=5, batch=2, made_by={"seed": 1})
    assert journal.resume() == []
    journal.add([{"row": 0, "text": "a\u2028b"}, {"row": 1}])
    journal.add([{"row": 2}])
    with journal.path.open("ab") as file:
        file.write(b'{"row": 3')
    assert journal.resume() == [{"row": 0, "text": "a\u2028b"}, {"row": 1}]
    journal.add([{"row": 2}, {"row": 3}])
    journal.add([{"row": 4}])
    assert [row["row"] for row in journal.resume()] == [0, 1, 2, 3, 4]
    with pytest.raises(TrueupError, match="E723"):
        Journal(path=journal.path, total=5, batch=2, made_by={"seed": 2}).resume()
