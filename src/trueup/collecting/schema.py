"""The store's tables as statements name them, and the numbered migrations that make them.

A migration is a file of SQL, run whole or not at all; what differs between SQLite and PostgreSQL is a word in
braces. A store whose number is above the last one here was written by a later trueup and is not opened.
"""

from __future__ import annotations

import re
from importlib import resources

import sqlalchemy as sa
from sqlalchemy import Column, Integer, Table, Text

from trueup.errors import TrueupError

_WORDS = {
    "sqlite": {"id": "INTEGER PRIMARY KEY AUTOINCREMENT", "int": "INTEGER", "strict": "STRICT"},
    "postgresql": {
        "id": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY", "int": "BIGINT", "strict": "",
    },
}  # fmt: skip
_LATEST = "SELECT MAX(number) FROM migration"
_meta = sa.MetaData()


def _table(name: str, *columns: str) -> Table:
    """A table of texts, but for the columns whose name ends in `#`, which are whole numbers."""
    made = [Column(c.rstrip("#"), Integer if c.endswith("#") else Text) for c in columns]
    return Table(name, _meta, *made)


setting = _table("setting", "name", "value")
person = _table("person", "id#", "name", "role", "team", "token", "sessions#", "active#", "passed#", "at")
task = _table(
    "task", "id#", "block", "kind", "purpose", "sha", "body", "gold", "overlap#", "answers#", "models"
)
lease = _table("lease", "task#", "person#", "expires#")
event = _table("event", "seq#", "at", "kind", "person#", "task#", "body")
answer = _table(
    "answer", "id#", "task#", "person#", "retry_key", "skipped#", "body", "shown", "seconds#", "version",
    "at", "given#", "undone#",
)  # fmt: skip
draft = _table("draft", "task#", "person#", "body", "at")
TABLES = _meta.tables


def migrations() -> dict[int, str]:
    """The text of each migration by its number."""
    folder = resources.files("trueup.collecting") / "migrations"
    found = {path.name: path.read_text("utf-8") for path in folder.iterdir() if path.name.endswith(".sql")}
    return {int(name.partition(".")[0]): found[name] for name in sorted(found)}


def migrate(connection: sa.Connection, at: str) -> int:
    """The number of the store's last migration, all that are missing having been run; raises E882.

    It runs in the transaction of its caller, so a kill leaves the store as it was before.
    """
    words, known = _WORDS[connection.dialect.name], migrations()
    strict = words["strict"]
    connection.exec_driver_sql(
        f"CREATE TABLE IF NOT EXISTS migration (number INTEGER PRIMARY KEY, at TEXT NOT NULL) {strict}"
    )
    reached = connection.exec_driver_sql(_LATEST).scalar() or 0
    if reached > max(known):
        raise TrueupError(
            "E882",
            f"the store was written by a later trueup: migration {reached}, and this one knows {max(known)}",
            where="store",
            remedy="install that version again, or restore a backup from before",
        )
    for number in range(reached + 1, max(known) + 1):
        for statement in _statements(known[number], words):
            connection.exec_driver_sql(statement)
        connection.execute(sa.text("INSERT INTO migration VALUES (:n, :at)"), {"n": number, "at": at})
    return max(known)


def _statements(text: str, words: dict[str, str]) -> list[str]:
    bare = re.sub(r"--[^\n]*", "", text).format(**words)
    return [statement.strip() for statement in bare.split(";") if statement.strip()]
