"""SIGKILL under load: what was acknowledged is there, once; the store is whole. And backups."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from collecting.people_at_work import crowd, filled, works
from trueup.collecting.exports import exported_rows
from trueup.collecting.schema import answer, task
from trueup.collecting.store import Store

HAMMER = Path(__file__).with_name("hammer.py")
KILLS, MANY_KILLS = 3, 1000
"Of every run, and of one of `make test-all`."
BACKUPS = 4
PEOPLE = 4


def killed(store: Store, first: int, turn: int, chance: random.Random) -> set[str]:
    """The keys of the answers that a process had acknowledged when it was killed."""
    command = [sys.executable, str(HAMMER), store.place, str(first), str(PEOPLE), str(turn)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        lines = [process.stdout.readline() for _ in range(chance.randint(1, 12))]
        time.sleep(chance.uniform(0.0, 0.02))  # at any place of a transaction
        process.kill()
        lines += process.stdout.read().splitlines(keepends=True)
    return {line.split()[0] for line in lines if line.endswith("\n")}


def whole(store: Store, acknowledged: set[str]) -> None:
    with store.read() as c:
        keys = c.execute(sa.select(answer.c.retry_key)).scalars().all()
        pairs = c.execute(sa.select(answer.c.task, answer.c.person)).all()
        counted = c.execute(sa.select(sa.func.sum(task.c.answers))).scalar_one()
    assert acknowledged <= set(keys)
    assert len(set(pairs)) == len(pairs) == counted
    assert store.fault() == ""


def kills(folder: Path, count: int) -> None:
    store = filled(folder, 400 + 40 * count, overlap=3)
    first = crowd(store, PEOPLE)[0]
    chance, acknowledged = random.Random(0), set[str]()
    for turn in range(count):
        acknowledged |= killed(store, first, turn, chance)
        whole(store, acknowledged)
    assert acknowledged


def test_no_acknowledged_answer_is_lost_or_doubled_by_kills(tmp_path: Path) -> None:
    kills(tmp_path, KILLS)


@pytest.mark.slow  # 1,000 processes that are started and killed: most of an hour
def test_no_acknowledged_answer_is_lost_or_doubled_by_many_kills(tmp_path: Path) -> None:
    kills(tmp_path, MANY_KILLS)


def test_backups_under_load_are_whole_and_restored(tmp_path: Path) -> None:
    store = filled(tmp_path, 40)
    people = crowd(store, 3)
    at_work = [threading.Thread(target=works, args=(store, who, lambda: 0.0, 0.0)) for who in people]
    for thread in at_work:
        thread.start()
    for number in range(BACKUPS):
        before = {row["id"] for row in exported_rows(store)[0]}
        copy = Store(str(store.backup(tmp_path / f"backup-{number}.db")))
        assert before <= {row["id"] for row in exported_rows(copy)[0]} and copy.fault() == ""
        assert (copy.secret, copy.seed) == (store.secret, store.seed)
        copy.close()
    for thread in at_work:
        thread.join()
    restored = Store(str(store.backup(tmp_path / "last.db")))
    assert exported_rows(restored) == exported_rows(store)


def test_a_migration_that_is_cut_short_leaves_the_store_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trueup.collecting import schema
    from trueup.errors import TrueupError

    store = filled(tmp_path, 3)
    before = exported_rows(store)
    real = schema.migrations()
    last = max(real)
    monkeypatch.setattr(
        schema, "migrations", lambda: {**real, last + 1: "CREATE TABLE more (x INTEGER); DROP TABLE none"}
    )
    with pytest.raises(TrueupError, match="E880"):
        Store(store.place)
    with closing(sqlite3.connect(store.place)) as db:
        assert db.execute("SELECT MAX(number) FROM migration").fetchone() == (last,)
        assert not db.execute("SELECT name FROM sqlite_master WHERE name = 'more'").fetchall()
    monkeypatch.setattr(schema, "migrations", lambda: {**real, last + 1: "CREATE TABLE more (x INTEGER)"})
    assert exported_rows(Store(store.place)) == before
    monkeypatch.setattr(schema, "migrations", lambda: real)
    with pytest.raises(TrueupError, match="E882"):
        Store(store.place)


def test_the_statements_name_what_the_migrations_made(tmp_path: Path) -> None:
    from trueup.collecting.schema import TABLES

    store = filled(tmp_path, 1)
    with store.read() as c:
        found = sa.inspect(c)
        made = {name: {col["name"] for col in found.get_columns(name)} for name in found.get_table_names()}
    assert made == {name: set(t.columns.keys()) for name, t in TABLES.items()} | {
        "migration": {"number", "at"}
    }
