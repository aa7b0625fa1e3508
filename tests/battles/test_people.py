"""People as judges: forms that are filled in, read back as they were meant, and never written over."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from battles.arena import Arena
from trueup.battles.people import _indented
from trueup.cli import main
from trueup.errors import EXIT_AWAITS, EXIT_DATA
from trueup.ratings.battles import read_battles

PEOPLE = ["battle", "a", "b", "--prompts", "prompts.jsonl", "--by", "people", "--batch", "4", "--out", "out"]


def better(line: str) -> str:
    """The side of a pair that model b wrote."""
    row = json.loads(line)
    return "left" if row["left"].startswith("b") else "right"


def fill(path: Path, answers: dict[str, str]) -> None:
    """Nothing; the form has these answers, as a person writes them."""
    text = path.read_text("utf-8")
    for found, answer in answers.items():
        text = re.sub(rf"(?m)^choice {found}:.*$", f"choice {found}:  {answer} ", text)
    path.write_text(text, "utf-8")


def pairs(home: Path, number: int) -> dict[str, str]:
    """The right answers of a round: b is always better."""
    lines = (home / "out" / "people" / f"round-{number:03}.jsonl").read_text("utf-8").splitlines()
    return {json.loads(line)["id"]: better(line) for line in lines}


def test_a_form_is_filled_in_round_by_round(arena: Arena, capsys: pytest.CaptureFixture[str]) -> None:
    command = [*PEOPLE, "--battles", "6", "--prior", "0.1"]
    assert main(command) == EXIT_AWAITS
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("waiting for people: 0 of 4 pairs answered; fill in out/people/round-001.md")
    form = arena.home / "out" / "people" / "round-001.md"
    assert len(re.findall(r"^choice [0-9a-f]{12}: $", form.read_text("utf-8"), re.MULTILINE)) == 4
    known = pairs(arena.home, 1)
    first, *rest = known
    fill(form, {first: known[first].upper()})
    assert main(command) == EXIT_AWAITS
    assert "1 of 4 pairs answered" in capsys.readouterr().out
    fill(form, {found: known[found] for found in rest[:-1]} | {rest[-1]: "skip"})
    assert main(command) == EXIT_AWAITS
    assert "0 of 2 pairs answered" in capsys.readouterr().out
    lines = arena.home / "out" / "people" / "round-002.jsonl"
    said = [json.loads(line) | {"choice": better(line)} for line in lines.read_text("utf-8").splitlines()]
    lines.write_text("".join(json.dumps(row) + "\n" for row in said), "utf-8")
    assert main(command) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "6 battles are fought."
    found = read_battles(arena.home / "out" / "battles.jsonl").battles
    assert len(found) == 5, "who skips says nothing"
    assert {(b.a, b.b, b.win, b.judge) for b in found} == {("a", "b", 0.0, "people")}
    assert {b.first for b in found} <= {"a", "b"}
    shown = {json.loads(line)["left"][0] for line in lines.read_text("utf-8").splitlines()}
    assert shown <= {"a", "b"}


def test_sides_are_drawn_and_several_people_share_a_pair(arena: Arena) -> None:
    command = [*PEOPLE[:-4], "--batch", "20", "--out", "out", "--battles", "20"]
    assert main(command) == EXIT_AWAITS
    known = pairs(arena.home, 1)
    assert 4 <= list(known.values()).count("left") <= 16
    form = arena.home / "out" / "people" / "round-001.md"
    bare = form.read_text("utf-8")
    for person, answers in (("ann", known), ("bob", dict.fromkeys(known, "tie"))):
        copy = form.with_name(f"round-001.{person}.md")
        copy.write_text(bare, "utf-8")
        fill(copy, answers)
    assert main([*command, "--prior", "0.1"]) == 0
    found = read_battles(arena.home / "out" / "battles.jsonl").battles
    assert len(found) == 40 and {b.weight for b in found} == {0.5}
    assert {(b.judge, b.win) for b in found} == {("people:ann", 0.0), ("people:bob", 0.5)}
    told = json.loads((arena.home / "out" / "battle.json").read_text("utf-8"))
    assert told["judges"][0]["people"] == ["ann", "bob"]


def test_a_round_that_grows_keeps_what_was_filled_in(arena: Arena) -> None:
    assert main([*PEOPLE, "--battles", "2"]) == EXIT_AWAITS
    form = arena.home / "out" / "people" / "round-001.md"
    known = pairs(arena.home, 1)
    fill(form, dict(list(known.items())[:1]))
    assert main([*PEOPLE, "--battles", "4"]) == EXIT_AWAITS
    more = pairs(arena.home, 1)
    assert len(more) == 4 and list(more)[:2] == list(known)
    text = form.read_text("utf-8")
    assert len(re.findall(r"(?m)^choice ", text)) == 4
    assert re.search(rf"(?m)^choice {next(iter(known))}: +(left|right) $", text)


def test_an_answer_that_is_none(arena: Arena, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PEOPLE, "--battles", "4"]) == EXIT_AWAITS
    known = pairs(arena.home, 1)
    form = arena.home / "out" / "people" / "round-001.md"
    fill(form, {next(iter(known)): "lefft"})
    line = next(n for n, text in enumerate(form.read_text("utf-8").splitlines(), 1) if "lefft" in text)
    assert main([*PEOPLE, "--battles", "4"]) == EXIT_DATA
    said = " ".join(capsys.readouterr().err.split())
    assert f"E438 out/people/round-001.md:{line}" in said and "write left, right, tie, skip" in said


def test_no_text_of_a_model_can_answer_for_a_person() -> None:
    forged = "fine\nchoice 0123456789ab: left\r\nchoice 0123456789ab: left\u2028choice 0123456789ab: left"
    assert all(line.startswith("    ") for line in _indented(forged).split("\n"))
    assert "⟦U+202E⟧" in _indented("\u202eabc")
