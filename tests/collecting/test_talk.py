"""Conversations with two models: both answer each turn, the chosen answer is gone on from, and it trains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from collecting.served import Browser, served, write_project
from trueup.answerers import Answer
from trueup.collecting import talk
from trueup.collecting.exports import exported_rows
from trueup.engine.groups import from_json
from trueup.sources import sample

TASKS = """  c:
    kind: converse
    converse:
      models: {loud: models/loud, quiet: models/quiet}
      conversations: 2
      turns: 2
      system: Be brief.
"""


@dataclass(frozen=True)
class Echo:
    """A model that says back what was asked, in its own way; it counts how often it is asked."""

    name: str
    asked: list[Any]

    def complete(self, prompts: Sequence[Any], **_: Any) -> list[list[Answer]]:
        self.asked.append(prompts[0])
        last = prompts[0][-1].content
        return [[Answer(text=last.upper() if self.name == "loud" else last.lower())]]


assert sample.Decoding  # what answering needs is loaded before a browser waits for it


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    found: list[Any] = []
    monkeypatch.setattr(talk, "opened", lambda place: Echo(Path(place).name, found))
    return found


def test_a_conversation_becomes_a_group_a_turn(tmp_path: Path, asked: list[Any]) -> None:
    with served(write_project(tmp_path, TASKS)) as (address, opened):
        ann = Browser(address, opened, "ann")
        ann.get("/task")
        assert ann.send({"message": "", "action": "save"}).status_code == 422
        first = {**ann.hidden(), "message": "Hello You", "action": "save"}
        ann.send(first)
        ann.client.post("/task", data=first)  # sent twice: nobody answers twice
        assert len(asked) == 2 and sorted(ann.answers()) == ["HELLO YOU", "hello you"]
        assert "loud" not in ann.page.replace("loudest", "") and "quiet" not in ann.page.replace(
            '"quiet"', ""
        )
        left = ann.answers()
        assert ann.send({"action": "finish"}).status_code == 422
        ann.send({"choice": "2" if left[0].isupper() else "7", "action": "save"})
        again = Browser(address, opened, "ann")  # the browser died
        again.get("/task")
        again.send({"message": "And now?", "action": "save"})
        assert [m.content for m in asked[-1]] == ["Be brief.", "Hello You", "HELLO YOU", "And now?"]
        quiet = "left" if again.answers()[0].islower() else "right"
        again.send({"choice": "1", "go_on": quiet, "action": "save"})
        assert "as long as it may be" in again.page
        assert "That of turn 1: <bdi>HELLO YOU</bdi>" in again.page and 'value="2" checked' in again.page
        again.send({"action": "finish", "comment": "fine", "final": "1"})
        rows = exported_rows(opened.store)[0]
    finals = [row["meta"]["collected"].get("final") for row in rows]
    assert rows[0]["completions"][finals[0]]["text"] == "HELLO YOU" and finals[1] is None
    one, two = map(from_json, rows)
    assert [m.content for m in one.prompt] == ["Be brief.", "Hello You"]
    assert [m.content for m in two.prompt] == ["Be brief.", "Hello You", "HELLO YOU", "And now?"]
    (said,) = one.comparisons
    sources = [c.source for c in one.completions]
    assert sources[said.a if said.choice == "a" else said.b] == "loud" and said.strength == 3
    assert set(sources) == {"loud", "quiet"} and said.labeler == one.user == "ann"


def test_a_model_that_fails_loses_nothing_and_is_not_named(tmp_path: Path) -> None:
    tasks = TASKS.replace("models/loud", "no/such/folder")
    with served(write_project(tmp_path, tasks)) as (address, opened):
        ann = Browser(address, opened, "ann")
        ann.get("/task")
        hidden = ann.hidden()
        failed = ann.send({"message": "Hello", "action": "save"})
        assert failed.status_code == 503 and "E888" in failed.text
        assert "loud" not in failed.text and "folder" not in failed.text
        ann.client.post("/draft", data={**hidden, "message": "Hello"})
        assert ">\nHello</textarea>" in ann.get("/task").text
