"""The pages as a browser without a script uses them: every kind of task, from the link to the groups."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from collecting.people_at_work import pairs_file
from collecting.served import KNOWN, Browser, served, write_project, write_rows
from trueup.collecting.exports import exported_rows
from trueup.collecting.open import Opened
from trueup.collecting.schema import answer

ASKED = [{"role": "user", "content": "name a colour"}]
FOUR = [{"prompt": ASKED, "completions": [{"text": t} for t in ("red", "blue", "seven", "")]}]
ONE = [{"prompt": "name a colour", "completion": "seven"}]


@contextmanager
def one(folder: Path, tasks: str, more: str = "") -> Iterator[tuple[Browser, Opened]]:
    with served(write_project(folder, tasks, more)) as (address, opened):
        ann = Browser(address, opened, "ann")
        yield ann, opened


def groups(opened: Opened) -> list[dict[str, Any]]:
    return exported_rows(opened.store)[0]


def test_a_comparison_is_kept_by_what_was_shown_where(tmp_path: Path) -> None:
    pairs_file(tmp_path, 8)
    with one(tmp_path, "  p: {kind: compare, data: pairs.jsonl}") as (ann, opened):
        ann.get("/task")
        places = []
        for number in range(8):
            sides = ann.answers()
            good = next(at for at, text in enumerate(sides) if text.startswith("it is"))
            places.append(good)
            ann.send({"choice": "2" if good == 0 else "6", "comment": f"because {number}", "action": "save"})
        assert ann.headline == "Nothing is left to do" and set(places) == {0, 1}
        found = groups(opened)
    assert len(found) == 8
    for row, place in zip(found, places, strict=True):
        (said,) = row["comparisons"]
        assert (said["choice"], said["labeler"]) == ("a", "ann")
        assert said["strength"] == (3 if place == 0 else 2)
        assert said["shown"] == ([0, 1] if place == 0 else [1, 0])
    comments = [row["meta"]["collected"]["comment"][0]["comment"] for row in found]
    assert comments == [f"because {n}" for n in range(8)]


def test_what_is_missing_is_said_and_nothing_that_was_written_is_lost(tmp_path: Path) -> None:
    pairs_file(tmp_path, 1)
    with one(tmp_path, "  p: {kind: compare, data: pairs.jsonl}") as (ann, opened):
        ann.get("/task")
        sent = ann.send({"comment": "a <b>long</b> thought", "action": "save"})
        assert sent.status_code == 422 and "Choose which answer is better" in sent.text
        assert "a &lt;b&gt;long&lt;/b&gt; thought</textarea>" in sent.text
        assert not groups(opened)


def test_a_ranking_has_its_ties(tmp_path: Path) -> None:
    write_rows(tmp_path / "r.jsonl", FOUR)
    with one(tmp_path, "  r: {kind: rank, data: r.jsonl}") as (ann, opened):
        ann.get("/task")
        want = {"red": "1", "blue": "1", "seven": "3", "": "4"}
        ann.send({f"rank-{at}": want[text] for at, text in enumerate(ann.answers(), 1)} | {"action": "save"})
        (row,) = groups(opened)
    assert [r["tiers"] for r in row["rankings"]] == [[[0, 1], [2], [3]]]


def test_ratings_by_axis_and_flags(tmp_path: Path) -> None:
    write_rows(tmp_path / "o.jsonl", ONE)
    with one(tmp_path, "  r: {kind: rate, data: o.jsonl}") as (ann, opened):
        ann.get("/task")
        said = {"value-helpful": "2", "value-honest": "7", "value-harmless": "6", "flag-untrue": "yes"}
        ann.send({**said, "action": "save"})
        (row,) = groups(opened)
    values = {score["judge"]: score["value"] for score in row["scores"]}
    assert values == {"helpful:ann": 2.0, "honest:ann": 7.0, "harmless:ann": 6.0}
    assert row["meta"]["collected"]["flags"] == [{"labeler": "ann", "flags": ["untrue"]}]


def test_a_demonstration_and_a_correction_are_completions_of_their_writer(tmp_path: Path) -> None:
    write_rows(tmp_path / "o.jsonl", ONE)
    blocks = "  d: {kind: demonstrate, data: o.jsonl}\n  c: {kind: critique, data: o.jsonl}"
    with one(tmp_path, blocks) as (ann, opened):
        ann.get("/task")
        ann.send({"text": "red\r\nor blue\0", "action": "save"})
        assert ann.send({"critique": "no colour", "text": "seven", "action": "save"}).status_code == 422
        ann.send({"critique": "no colour", "text": "red", "action": "save"})
        demonstrated, corrected = groups(opened)
    assert [(c["text"], c["source"]) for c in demonstrated["completions"]] == [("red\nor blue\ufffd", "ann")]
    assert [c["text"] for c in corrected["completions"]] == ["seven", "red"]
    (better,) = corrected["comparisons"]
    assert (better["a"], better["b"], better["choice"]) == (1, 0, "a")
    assert corrected["meta"]["collected"]["critique"] == [{"labeler": "ann", "critique": "no colour"}]


def test_skipping_needs_a_reason_and_a_retry_is_the_same_answer(tmp_path: Path) -> None:
    pairs_file(tmp_path, 2)
    with one(tmp_path, "  p: {kind: compare, data: pairs.jsonl}") as (ann, opened):
        ann.get("/task")
        assert ann.send({"action": "skip"}).status_code == 422
        ann.send({"action": "skip", "reason": "The task is broken"})
        first = {**ann.hidden(), "choice": "1", "action": "save"}
        for _ in range(3):
            again = ann.client.post("/task", data=first)
        assert "That answer was kept already." in again.text or "Nothing is left" in again.text
        with opened.store.read() as c:
            kept = c.execute(sa.select(answer.c.skipped, answer.c.body).order_by(answer.c.id)).all()
    assert [(row.skipped, json.loads(row.body).get("reason")) for row in kept] == [
        (1, "The task is broken"), (0, None),
    ]  # fmt: skip


def test_an_answer_is_taken_back_and_stands_in_the_form_again(tmp_path: Path) -> None:
    pairs_file(tmp_path, 2)
    with one(tmp_path, "  p: {kind: compare, data: pairs.jsonl}") as (ann, opened):
        ann.get("/task")
        shown = ann.answers()
        ann.send({"choice": "3", "comment": "hm", "action": "save"})
        ann.send({"action": "undo"})
        assert ann.answers() == shown and "Your last answer is taken back" in ann.page
        assert 'value="3" checked' in ann.page and ">\nhm</textarea>" in ann.page
        ann.send({"choice": "7", "action": "save"})
        (row,) = groups(opened)
    assert len(row["comparisons"]) == 1


def test_a_draft_outlives_the_server(tmp_path: Path) -> None:
    write_rows(tmp_path / "o.jsonl", ONE)
    tasks = "  d: {kind: demonstrate, data: o.jsonl}"
    with one(tmp_path, tasks) as (ann, opened):
        ann.get("/task")
        ann.send({"text": "half a tho"}, "/draft")
    with served(tmp_path / "project.yaml") as (address, opened):
        again = Browser(address, opened, "ann")
        again.get("/task")
        assert ">\nhalf a tho</textarea>" in again.page


def test_who_does_not_know_what_is_known_does_no_real_work_until_a_lead_says_so(tmp_path: Path) -> None:
    pairs_file(tmp_path, 2)
    write_rows(tmp_path / "gold.jsonl", KNOWN)
    tasks = "  p: {kind: compare, data: pairs.jsonl, qualify: gold.jsonl}"
    with one(tmp_path, tasks, "pass_share: 0.6") as (ann, opened):
        bob = Browser(str(ann.client.base_url), opened, "bob")
        for person, right in ((ann, True), (bob, False)):
            person.get("/task")
            for _ in KNOWN:
                fish = person.answers().index("a fish")
                person.send({"choice": "1" if (fish == 1) == right else "8", "action": "save"})
        assert len(ann.answers()) == 2 and bob.headline == "The first part is done"
        assert not groups(opened)
        lead = Browser(str(ann.client.base_url), opened, "lea", "lead")
        lead.get("/people")
        lead.send({"name": "bob", "action": "pass"}, "/people")
        assert len(bob.get("/task").text) and len(bob.answers()) == 2


def test_hidden_known_answers_come_among_the_others_and_stay_out_of_the_data(tmp_path: Path) -> None:
    pairs_file(tmp_path, 10)
    write_rows(tmp_path / "gold.jsonl", KNOWN)
    tasks = "  p: {kind: compare, data: pairs.jsonl, gold: gold.jsonl}"
    with one(tmp_path, tasks, "gold_share: 0.6") as (ann, opened):
        ann.get("/task")
        fish = 0
        while ann.answers():
            sides = ann.answers()
            fish += "a fish" in sides
            bad = next((at for at, text in enumerate(sides) if text == "a fish" or text.startswith("no")), 0)
            ann.send({"choice": "8" if bad == 0 else "1", "action": "save"})
        assert fish == 3 and len(groups(opened)) == 10
        lead = Browser(str(ann.client.base_url), opened, "lea", "lead")
        assert "3 of 3" in lead.get("/board").text
