"""Rounds: new models are put into a project, fresh comparisons follow, and ratings go on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from collecting.people_at_work import crowd, pairs_file
from collecting.served import write_project, write_rows
from trueup.answerers import Answer
from trueup.cli import main
from trueup.collecting import talk
from trueup.collecting.board import rated
from trueup.collecting.exports import exported_rows
from trueup.collecting.open import Opened, open_project
from trueup.collecting.rounds import Added, Round, add_round
from trueup.collecting.schema import task
from trueup.collecting.tasks import Desk, Given
from trueup.errors import TrueupError

TASKS = "  p: {kind: compare, data: pairs.jsonl}\n  r: {kind: rate, data: pairs.jsonl}"


@dataclass(frozen=True)
class Says:
    """A model that says its own name after what it was asked."""

    name: str

    def complete(self, prompts: Sequence[Any], **_: Any) -> list[list[Answer]]:
        return [[Answer(text=f"{self.name}: {p[-1].content}")] for p in prompts]


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Opened:
    monkeypatch.setattr(talk, "opened", Says)
    pairs_file(tmp_path, 3)
    return open_project(write_project(tmp_path, TASKS))


def votes(opened: Opened, order: Sequence[str]) -> None:
    """Nothing; somebody compares all that is there, with a liking for models in that order."""
    (who,) = crowd(opened.store, 1)
    desk = Desk(store=opened.store, blocks=("p",))
    while (held := desk.assign(who)) is not None:
        one, other = (order.index(c["source"]) for c in held.body["completions"])
        body = {"a": 0, "b": 1, "choice": "ab"[other < one], "strength": 1}
        desk.submit(who, Given(task=held.id, key=f"{who}-{held.id}-key", body=body))


def test_new_models_meet_the_old_ones_and_ratings_go_on(opened: Opened) -> None:
    votes(opened, ["tuned", "base"])
    added = add_round(opened.store, opened.project, "p", Round(models={"new": "new"}))
    assert added == Added(number=2, tasks=6, alike=0)
    votes(opened, ["new", "tuned", "base"])
    assert add_round(opened.store, opened.project, "p", Round(models={"x": "x"}, limit=4)).number == 3
    rows, _ = exported_rows(opened.store)
    assert len(rows) == 9
    fresh = [row for row in rows if row["meta"].get("round") == 2]
    pairs = sorted(tuple(sorted(c["source"] for c in row["completions"])) for row in fresh)
    assert pairs == [("base", "new")] * 3 + [("new", "tuned")] * 3
    texts = {c["text"] for row in fresh for c in row["completions"] if c["source"] == "new"}
    assert texts == {f"new: what is {n}?" for n in range(3)}
    board: Any = rated(rows)
    assert [m["model"] for m in board["models"]] == ["new", "tuned", "base"]
    with opened.store.read() as c:
        assert c.execute(sa.select(sa.func.count()).where(task.c.block == "p")).scalar_one() == 3 + 6 + 4


def test_fresh_prompts_are_answered_by_all_that_are_named(opened: Opened, tmp_path: Path) -> None:
    name = write_rows(tmp_path / "fresh.jsonl", [{"prompt": "why?", "id": "w"}])
    asked = Round(models={"one": "one", "two": "two"}, prompts=str(tmp_path / name))
    assert add_round(opened.store, opened.project, "p", asked).tasks == 1
    votes(opened, ["one", "two", "tuned", "base"])
    (row,) = [row for row in exported_rows(opened.store)[0] if row["id"] == "w"]
    assert [c["text"] for c in row["completions"]] == ["one: why?", "two: why?"]


def test_what_is_no_round_is_said_and_changes_nothing(opened: Opened, tmp_path: Path) -> None:
    write_rows(tmp_path / "fresh.jsonl", [{"prompt": "why?"}])
    for block, asked, code in (
        ("r", Round(models={"x": "x"}), "E889"), ("none", Round(models={"x": "x"}), "E889"),
        ("p", Round(models={"base": "x"}), "E889"),
        ("p", Round(models={"x": "x"}, prompts=str(tmp_path / "fresh.jsonl")), "E890"),
    ):  # fmt: skip
        with pytest.raises(TrueupError) as error:
            add_round(opened.store, opened.project, block, asked)
        assert error.value.code == code and error.value.remedy
    assert len(open_project(tmp_path / "project.yaml").said) == 0
    with opened.store.read() as c:
        assert c.execute(sa.select(sa.func.count()).where(task.c.block == "p")).scalar_one() == 3


def test_the_command_adds_a_round(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from small_world import save_model

    pairs_file(tmp_path, 2)
    project = write_project(tmp_path, "  p: {kind: compare, data: pairs.jsonl}")
    save_model(tmp_path / "m")
    place = [str(project), "p", "--max-new-tokens", "3", "--json"]
    assert main(["collect", "round", *place, "--model", f"new={tmp_path / 'm'}"]) == 0
    assert json.loads(capsys.readouterr().out) == {"round": 2, "tasks": 4, "alike": 0}
    assert main(["collect", "round", *place, "--model", str(tmp_path / "m")]) == 64
    assert "E889" in capsys.readouterr().err
    assert main(["collect", "report", str(project)]) == 0
    assert "fewer than two groups of people" in capsys.readouterr().out
