"""Tasks go round: exactly as many different people as asked, none twice, none lost, whoever leaves."""

from __future__ import annotations

import itertools
import json
import os
import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from collecting.people_at_work import crowd, filled, works
from trueup.collecting.schema import answer, event, lease, task
from trueup.collecting.store import Store, journal_of, log
from trueup.collecting.tasks import Desk, Given, Rules
from trueup.data.collected import collected_rows
from trueup.errors import TrueupError

PEOPLE, OVERLAP = 32, 3
FEW, MANY = 60, 2000
"Tasks in every run, and in one of `make test-all`."


def given(number: int, key: str = "k", choice: str = "a") -> Given:
    return Given(task=number, key=key, body={"a": 0, "b": 1, "choice": choice, "strength": 1})


def exact(store: Store, num: int) -> None:
    """Nothing; every task has its answers by exactly three people, and all that counts is counted once."""
    with store.read() as c:
        live = c.execute(sa.select(answer.c.task, answer.c.person).where(answer.c.undone.is_(None))).all()
        assert len(set(live)) == len(live) == OVERLAP * num
        counted = c.execute(
            sa.select(task.c.id, task.c.answers, sa.func.count(answer.c.id))
            .join(answer, sa.and_(answer.c.task == task.c.id, answer.c.undone.is_(None)))
            .group_by(task.c.id, task.c.answers)
        ).all()
        assert [row[1:] for row in counted] == [(OVERLAP, OVERLAP)] * num
        kinds = c.execute(sa.select(event.c.kind)).scalars().all()
        assert kinds.count("answer") - kinds.count("undo") == OVERLAP * num
    assert store.fault() == ""
    rows = [json.loads(row.raw) for row in collected_rows(f"collect:{store.place}")]
    assert [len({c["labeler"] for c in row["comparisons"]}) for row in rows] == [OVERLAP] * num


def many_hands(folder: Path, num: int) -> None:
    store = filled(folder, num, OVERLAP)
    people, late = crowd(store, PEOPLE), itertools.count()
    errors: list[BaseException] = []

    def hand(who: int, at: float) -> None:
        try:
            works(store, who, lambda: at)
        except BaseException as error:
            errors.append(error)

    for _ in range(40):
        shift = float(next(late)) * 120  # every lease of the shift before has run out
        threads = [threading.Thread(target=hand, args=(who, shift)) for who in people]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors
        with store.read() as c:
            if not c.execute(sa.select(sa.func.count()).where(task.c.answers < OVERLAP)).scalar_one():
                break
    exact(store, num)


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: syncs cost nothing there, and change nothing of what is seen."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as folder:
        yield Path(folder)


def test_each_task_has_exactly_three_people_whoever_leaves(quick: Path) -> None:
    many_hands(quick, FEW)


@pytest.mark.slow  # 6,000 answers by 32 threads: minutes
def test_each_of_many_tasks_has_exactly_three_people(quick: Path) -> None:
    many_hands(quick, MANY)


def test_a_retry_changes_nothing_and_another_answer_is_refused(tmp_path: Path) -> None:
    store = filled(tmp_path, 2)
    (ann,) = crowd(store, 1)
    desk = Desk(store=store)
    held = desk.assign(ann)
    assert held is not None
    assert [desk.submit(ann, given(held.id, "one")) for _ in range(3)] == ["kept", "same", "same"]
    assert desk.submit(ann, given(held.id, "two", "b")) == "already"
    with store.read() as c:
        assert [json.loads(b)["choice"] for b in c.execute(sa.select(answer.c.body)).scalars()] == ["a"]


def test_the_store_itself_refuses_a_second_answer(tmp_path: Path) -> None:
    store = filled(tmp_path, 1)
    (ann,) = crowd(store, 1)
    with pytest.raises(IntegrityError), store.write() as c:
        for key in "xy":
            seq = log(c, "answer", ann, 1)
            c.execute(
                answer.insert().values(
                    task=1, person=ann, retry_key=key, skipped=0, body="{}", shown="[]", seconds=0,
                    version="", at="", given=seq,
                )
            )  # fmt: skip
    with store.read() as c:
        assert c.execute(sa.select(sa.func.count(answer.c.id))).scalar_one() == 0


def test_a_lease_runs_out_and_what_comes_late_counts_only_where_there_is_room(tmp_path: Path) -> None:
    store, time = filled(tmp_path, 1), [0.0]
    ann, bob = crowd(store, 2)
    desk = Desk(store=store, rules=Rules(lease_seconds=60), clock=lambda: time[0])
    first = desk.assign(ann)
    assert first is not None and desk.assign(bob) is None
    time[0] = 61.0
    second = desk.assign(bob)
    assert second is not None and second.id == first.id
    assert desk.submit(ann, given(first.id, "ann")) == "late"
    assert desk.submit(bob, given(first.id, "bob")) == "kept"
    with store.read() as c:
        said = c.execute(sa.select(event.c.body).where(event.c.kind == "late")).scalar_one()
    assert json.loads(said)["said"]["choice"] == "a"


def test_an_answer_to_a_task_that_was_not_given_is_refused(tmp_path: Path) -> None:
    store = filled(tmp_path, 2)
    ann, bob = crowd(store, 2)
    desk = Desk(store=store)
    held = desk.assign(ann)
    assert held is not None
    with pytest.raises(TrueupError, match="E886"):
        desk.submit(bob, given(held.id))


def test_one_undoes_the_last_of_their_own_once_and_it_is_theirs_again(tmp_path: Path) -> None:
    store = filled(tmp_path, 3)
    ann, bob = crowd(store, 2)
    desk = Desk(store=store)
    for number in range(2):
        held = desk.assign(ann)
        assert held is not None and desk.submit(ann, given(held.id, f"a{number}")) == "kept"
    assert desk.undo(bob) is None
    assert desk.undo(ann) == held.id and desk.undo(ann) is None
    again = desk.assign(ann)
    assert again is not None and again.id == held.id
    assert again.draft["said"]["choice"] == "a" and again.shown == held.shown
    assert desk.submit(ann, given(held.id, "a3", "b")) == "kept"
    rows = [json.loads(row.raw) for row in collected_rows(f"collect:{store.place}")]
    assert [c["choice"] for row in rows for c in row["comparisons"]] == ["a", "b"]


def test_a_skipped_task_goes_to_others_alone(tmp_path: Path) -> None:
    store = filled(tmp_path, 1)
    ann, bob = crowd(store, 2)
    desk = Desk(store=store)
    held = desk.assign(ann)
    assert held is not None
    skip = Given(task=held.id, key="s", body={"reason": "too long"}, skipped=True)
    assert desk.submit(ann, skip) == "kept" and desk.assign(ann) is None
    again = desk.assign(bob)
    assert again is not None and again.id == held.id


def test_a_draft_is_there_again_and_holds_its_lease(tmp_path: Path) -> None:
    store, time = filled(tmp_path, 1), [0.0]
    ann, bob = crowd(store, 2)
    desk = Desk(store=store, rules=Rules(lease_seconds=60), clock=lambda: time[0])
    held = desk.assign(ann)
    assert held is not None and not desk.keep_draft(bob, held.id, {"fields": {}})
    time[0] = 50.0
    assert desk.keep_draft(ann, held.id, {"fields": {"comment": "half a thought"}})
    time[0] = 100.0
    again = Desk(store=Store(store.place), clock=lambda: 100.0).assign(ann)
    assert again is not None and again.draft == {"fields": {"comment": "half a thought"}}
    with store.read() as c:
        assert c.execute(sa.select(sa.func.count()).select_from(lease)).scalar_one() == 1


@pytest.mark.parametrize(
    ("version", "journal"),
    [
        ((3, 40, 1), "DELETE"), ((3, 51, 2), "DELETE"), ((3, 50, 6), "DELETE"), ((3, 44, 5), "DELETE"),
        ((3, 45, 9), "DELETE"), ((3, 51, 3), "WAL"), ((3, 52, 0), "WAL"), ((3, 50, 7), "WAL"),
        ((3, 44, 6), "WAL"),
    ],
)  # fmt: skip
def test_a_write_ahead_log_only_where_sqlite_does_not_lose_it(version: tuple[int, ...], journal: str) -> None:
    assert journal_of(version) == (journal, "FULL" if journal == "WAL" else "EXTRA")


def test_a_store_is_kept_as_the_rule_for_its_sqlite_says(tmp_path: Path) -> None:
    store = filled(tmp_path, 1)
    with store.read() as c:
        mode = c.exec_driver_sql("PRAGMA journal_mode").scalar_one()
        synced = c.exec_driver_sql("PRAGMA synchronous").scalar_one()
    journal, full = journal_of(sqlite3.sqlite_version_info)
    assert (mode.upper(), synced) == (journal, {"FULL": 2, "EXTRA": 3}[full])
