"""What was collected, as files: groups at any moment, and the log of everything that happened."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from trueup.collecting import schema
from trueup.collecting.store import Store
from trueup.data.collected import ANSWERS, LATEST, TASKS, VERDICTS, group_rows, line_of
from trueup.engine import disk


def exported_rows(store: Store) -> tuple[list[dict[str, Any]], int]:
    """The rows of groups as the store is now, and the number of the last event that they have."""
    with store.read() as connection:
        latest = connection.exec_driver_sql(LATEST).scalar_one()
        tasks = connection.exec_driver_sql(TASKS).all()
        said = connection.exec_driver_sql(ANSWERS.format(until=latest)).all()
        verdicts = connection.exec_driver_sql(VERDICTS.format(until=latest)).all()
    return list(group_rows(tasks, said, verdicts)), latest


def export(store: Store, out: Path) -> tuple[int, int]:
    """How many groups were written to a file, whole, and the number of the last event that they have."""
    rows, latest = exported_rows(store)
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
