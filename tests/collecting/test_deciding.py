"""Disputes: who has not voted sees the votes without names and decides; the votes stay."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from collecting.people_at_work import pairs_file
from collecting.served import Browser, served, write_project
from trueup.collecting.deciding import disputed
from trueup.collecting.exports import export
from trueup.data.collected import collected_digest, collected_rows
from trueup.errors import TrueupError

TASKS = "  p: {kind: compare, data: pairs.jsonl, overlap: 2, adjudicate: differ}"
A, B, TIE = ({"choice": c} for c in ("a", "b", "tie"))


@pytest.mark.parametrize(
    ("votes", "differ", "undecided"),
    [
        ([], False, False), ([A], False, False), ([A, A], False, False), ([A, B], True, True),
        ([A, A, B], True, False), ([A, B, TIE], True, True), ([A, A, B, B], True, True),
    ],
)  # fmt: skip
def test_what_is_in_dispute(votes: list[dict[str, str]], differ: bool, undecided: bool) -> None:
    assert disputed("compare", votes, "differ") == differ
    assert disputed("compare", votes, "undecided") == undecided
    assert not disputed("compare", votes, "never")


def test_ratings_and_ranks_are_in_dispute_as_known_answers_are() -> None:
    near, far = ({"values": {"helpful": v}} for v in (4, 7))
    assert not disputed("rate", [near, {"values": {"helpful": 5}}], "differ")
    assert disputed("rate", [near, far], "differ")
    one, other = ({"tiers": t} for t in ([[0], [1, 2]], [[1], [0], [2]]))
    assert disputed("rank", [one, other], "undecided")


def voted(person: Browser, better: str, comment: str = "") -> None:
    """Nothing; somebody compares all that is there, for what begins so."""
    person.get("/task")
    while sides := person.answers():
        left = sides[0].startswith(better)
        person.send({"choice": "2" if left else "7", "comment": comment, "action": "save"})


def test_a_lead_who_has_not_voted_decides_and_the_votes_stay(tmp_path: Path) -> None:
    pairs_file(tmp_path, 2)
    with served(write_project(tmp_path, TASKS, "adjudicators: [cho]")) as (address, opened):
        ann, bob, cho = (Browser(address, opened, name) for name in ("ann", "bob", "cho"))
        lea = Browser(address, opened, "lea", "lead")
        voted(ann, "it", "it <b>helps</b>")
        lea.get("/decide")
        assert lea.headline == "Nothing is to be decided"
        voted(bob, "no")
        assert bob.get("/decide").status_code == 403 and 'href="/decide"' not in bob.page
        assert cho.get("/decide").status_code == 200
        page = lea.get("/decide").text
        assert "2 to decide" in page and "ann" not in page.replace("annotat", "") and "bob" not in page
        good = lea.answers()[0].startswith("it")
        letters = ("A", "B") if good else ("B", "A")
        assert f"{letters[0]} is better; \u201cit &lt;b&gt;helps&lt;/b&gt;\u201d" in page
        assert f'<li dir="auto">{letters[1]} is better</li>' in page
        assert lea.send({"choice": "4", "action": "save"}, "/decide").status_code == 422
        assert "Say why you decide so." in lea.page
        before = export(opened.store, tmp_path / "before.jsonl")[1]
        first = {**lea.hidden(), "choice": "1" if good else "8", "verdict": "it is so", "action": "save"}
        lea.client.post("/decide", data=first)
        again = lea.client.post("/decide", data=first)
        assert "kept already" in again.text and "1 to decide" in again.text
        late = cho.client.post("/decide", data={**first, "stamp": cho.hidden()["stamp"]})
        assert "Somebody else has decided" in late.text
        export(opened.store, tmp_path / "out.jsonl")
        store = f"collect:{opened.store.place}"
        raw = [row.raw for row in collected_rows(store)]
        assert b"".join(raw) == (tmp_path / "out.jsonl").read_bytes()
        assert (
            b"".join(r.raw for r in collected_rows(f"{store}?until={before}"))
            == (tmp_path / "before.jsonl").read_bytes()
        )
        assert collected_digest(store) != collected_digest(f"{store}?until={before}")
    rows = {json.loads(line)["id"]: json.loads(line) for line in raw}
    (decided,) = [row for row in rows.values() if "adjudicated" in row["meta"]["collected"]]
    (label,) = decided["comparisons"]
    note = decided["meta"]["collected"]["adjudicated"]
    assert (label["labeler"], label["choice"], label["strength"]) == ("lea", "a", 4)
    assert (note["labeler"], note["reason"]) == ("lea", "it is so")
    assert [(v["labeler"], v["choice"]) for v in note["votes"]] == [("ann", "a"), ("bob", "b")]
    (other,) = [row for row in rows.values() if row is not decided]
    assert [v["labeler"] for v in other["comparisons"]] == ["ann", "bob"]


def test_nobody_decides_what_they_voted_on(tmp_path: Path) -> None:
    pairs_file(tmp_path, 1)
    with served(write_project(tmp_path, TASKS)) as (address, opened):
        lea, bob, max_ = (Browser(address, opened, n, "lead") for n in ("lea", "bob", "max"))
        voted(lea, "it")
        voted(bob, "no")
        lea.get("/decide")
        assert lea.headline == "Nothing is to be decided"
        max_.get("/decide")
        fields = {**max_.hidden(), "stamp": lea.hidden()["stamp"], "choice": "1", "verdict": "mine"}
        assert "You have voted on that task yourself." in lea.client.post("/decide", data=fields).text


def test_a_rule_needs_votes_that_can_differ(tmp_path: Path) -> None:
    from trueup.collecting.project import read_project

    pairs_file(tmp_path, 1)
    for wrong in ("{kind: compare, data: pairs.jsonl, adjudicate: differ}",
                  "{kind: critique, data: pairs.jsonl, overlap: 2, adjudicate: differ}"):  # fmt: skip
        with pytest.raises(TrueupError, match="adjudicate"):
            read_project(write_project(tmp_path, f"  p: {wrong}"))
