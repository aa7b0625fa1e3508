"""Groups of people: what parts them is found, what does not is said, and each trains a model of its own."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path
from typing import Any

import pytest

from collecting.people_at_work import filled
from collecting.served import Browser, served, write_project
from trueup import read
from trueup.collecting.exports import export
from trueup.collecting.people import People
from trueup.collecting.schema import answer, task
from trueup.collecting.store import Store, log, now, plain
from trueup.collecting.whose import as_json, groups_report
from trueup.data.collected import collected_rows
from trueup.errors import TrueupError

GROUPS = ("north", "south")


def of_name(store: Store, name: str, team: str) -> int:
    people = People(store=store)
    who = people.of_token(people.invite(name, team=team))
    assert who is not None
    return who.id


def population(folder: Path, tastes: tuple[float, float], num: int = 40, each: int = 4) -> Store:
    """A store in which two groups compared all; the taste of one is how often it likes `tuned`."""
    store = filled(folder, num, 2 * each)
    chance = random.Random(0)
    names = [f"{team} {number}" for team in GROUPS for number in range(each)]
    people = [of_name(store, name, name.split()[0]) for name in names]
    with store.write() as c:
        for (name, who), number in itertools.product(zip(names, people, strict=True), range(1, num + 1)):
            choice = "a" if chance.random() < tastes[name.startswith("south")] else "b"
            said = plain({"a": 0, "b": 1, "choice": choice, "strength": 1})
            given = {
                "task": number,
                "person": who,
                "retry_key": f"{who}-{number}",
                "body": said,
                "seconds": 1,
            }
            seq = log(c, "answer", who, number)
            more = {"skipped": 0, "shown": "[0, 1]", "version": "", "at": now(), "given": seq}
            c.execute(answer.insert().values(**given, **more))
        c.execute(task.update().values(answers=2 * each))
    return store


def test_two_values_are_found_with_what_each_prefers(tmp_path: Path) -> None:
    found = groups_report(population(tmp_path, (0.9, 0.1)))
    (pair,) = found["pairs"]
    # Two of one group agree on .9² + .1² = 82 %, two of both on 2 · .9 · .1 = 18 %.
    assert pair["within"].mean == pytest.approx(0.82, abs=0.06) and not pair["within"].excludes(0.82)
    assert pair["between"].mean == pytest.approx(0.18, abs=0.06) and not pair["between"].excludes(0.18)
    assert pair["gap"].mean == pytest.approx(pair["within"].mean - pair["between"].mean)
    # Of the 70 ways to divide eight people into four and four, this one and its mirror.
    assert pair["p"] == pytest.approx(2 / 70) and pair["differ"]
    (one,) = found["preferences"]
    assert one["models"] == ["base", "tuned"] and one["gap"].excludes(0.0)
    assert one["shares"]["north"].mean == pytest.approx(0.1, abs=0.06)
    assert one["gap"].mean == pytest.approx(-0.8, abs=0.1)
    best = [found["models"][name]["models"][0]["model"] for name in GROUPS]
    assert best == ["tuned", "base"]
    within, share = pair["within"].mean, one["shares"]["south"].mean
    assert found["said"][0].startswith(f"north and south differ: two of one group agree on {within:.0%}"[:-1])
    assert found["said"][1].startswith(f"south prefers base to tuned on {share:.0%}"[:-1])
    assert json.loads(json.dumps(as_json(found)))["pairs"][0]["gap"]["ci95"][0] > 0.4


def test_one_value_is_said_to_be_one(tmp_path: Path) -> None:
    found = groups_report(population(tmp_path, (0.7, 0.7)))
    (pair,) = found["pairs"]
    assert not pair["differ"] and pair["p"] > 0.05
    assert [s for s in found["said"] if "do not differ measurably" in s] == found["said"]


def test_p_is_seldom_small_where_there_is_one_value() -> None:
    import numpy as np

    from trueup.collecting.whose import _chance

    chance, side = np.random.default_rng(1), np.repeat([True, False], 4)
    small = 0
    for _ in range(200):
        taste = chance.normal(size=8)  # people differ, groups do not
        said = chance.random((12, 8)) < 1 / (1 + np.exp(-2 * taste))
        rows = [
            (t, i, j, bool(said[t, i] == said[t, j])) for t in range(12) for i in range(8) for j in range(i)
        ]
        small += _chance([(t, j, i, s) for t, i, j, s in rows], side) <= 0.05
    assert small <= 20  # a twentieth is expected; three standard deviations above it


def test_too_few_are_not_guessed_about(tmp_path: Path) -> None:
    (pair,) = groups_report(population(tmp_path, (1.0, 0.0), num=5, each=1))["pairs"]
    assert pair["gap"] is None and not pair["differ"]
    (tmp_path / "empty").mkdir()
    empty = groups_report(filled(tmp_path / "empty", 1))
    assert empty["said"] == ["Nobody can be told apart: fewer than two groups of people have answered."]


def test_a_recipe_reads_one_group_and_a_group_is_that_of_the_event(tmp_path: Path) -> None:
    store = population(tmp_path, (1.0, 0.0), num=6, each=2)
    place = f"collect:{store.place}"
    _, then = export(store, tmp_path / "all.jsonl")
    for team, better in zip(GROUPS, "ab", strict=True):
        groups = read(f"{place}?group={team}")
        said = [c for g in groups for c in g.comparisons]
        assert len(groups) == 6 and {c.labeler for c in said} == {f"{team} 0", f"{team} 1"}
        assert {c.choice for c in said} == {better}
        export(store, tmp_path / "one.jsonl", team)
        raw = b"".join(row.raw for row in collected_rows(f"{place}?group={team}&until={then}"))
        assert raw == (tmp_path / "one.jsonl").read_bytes()
    People(store=store).invite("north 0", team="south")
    assert len(read(f"{place}?group=south")[0].comparisons) == 3
    assert len(read(f"{place}?until={then}&group=south")[0].comparisons) == 2
    with pytest.raises(TrueupError, match="there are north, south") as error:
        read(f"{place}?group=west")
    assert error.value.code == "E884"
    with pytest.raises(TrueupError, match="E884"):
        read(f"{place}?team=south")


def test_the_page_says_what_the_report_says_and_shows_it_to_leads_alone(tmp_path: Path) -> None:
    population(tmp_path, (0.9, 0.1), num=12)
    tasks = "  pairs: {kind: compare, data: pairs.jsonl, overlap: 8}"
    with served(write_project(tmp_path, tasks)) as (address, opened):
        lea, ann = Browser(address, opened, "lea", "lead"), Browser(address, opened, "ann")
        assert ann.get("/groups").status_code == 403
        page: Any = lea.get("/groups").text
        said = groups_report(opened.store)["said"]
        assert len(said) == 2 and all(s in page for s in said)
        assert "Models, by <bdi>north</bdi>" in page and page.count("<svg") >= 2
