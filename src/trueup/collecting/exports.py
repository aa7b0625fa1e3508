"""What was collected, as files: groups at any moment, and the log of everything that happened."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from trueup.collecting import schema
from trueup.collecting.store import Store
from trueup.data.collected import LATEST, line_of, rows_of
from trueup.engine import disk


def exported_rows(
    store: Store, group: str | None = None, kind: str | None = None
) -> tuple[list[dict[str, Any]], int]:
    """The rows of groups as the store is now, and the number of the last event that they have.

    With `group` those of one group of people (E884 where there is none of that name), with `kind` of one
    kind of task.
    """
    with store.read() as connection:
        latest = connection.exec_driver_sql(LATEST).scalar_one()
        return rows_of(lambda query: connection.exec_driver_sql(query).all(), latest, group, kind), latest


def export(store: Store, out: Path, group: str | None = None, kind: str | None = None) -> tuple[int, int]:
    """How many groups were written to a file, whole, and the number of the last event that they have."""
    rows, latest = exported_rows(store, group, kind)
    disk.make_folder(out.parent)
    disk.write(out, b"".join(map(line_of, rows)))
    return len(rows), latest


def write_events(store: Store, out: Path) -> int:
    """How many events of the log were written to a file, one a line."""
    lines = [line_of(row) for row in events(store)]
    disk.make_folder(out.parent)
    disk.write(out, b"".join(lines))
    return len(lines)


def events(store: Store) -> Iterator[dict[str, Any]]:
    """The log, from its beginning: who did what when."""
    columns = (schema.event, schema.person.c.name)
    with store.read() as connection:
        joined = schema.event.outerjoin(schema.person, schema.person.c.id == schema.event.c.person)
        for row in connection.execute(sa.select(*columns).select_from(joined).order_by(schema.event.c.seq)):
            said = {"seq": row.seq, "at": row.at, "kind": row.kind, "person": row.name, "task": row.task}
            yield {name: value for name, value in said.items() if value is not None} | {
                "body": json.loads(row.body)
            }
