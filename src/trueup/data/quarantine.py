"""The quarantine file: every bad row with its place, the reason and its original bytes."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trueup.data.problems import Problem
from trueup.data.raw_rows import RawRow, unreadable
from trueup.data.writer import whole

Put = Callable[[Problem, RawRow], None]


@contextmanager
def writing(path: Path | None) -> Iterator[Put]:
    """A function that puts a bad row into the file at `path`, which is complete or not there; None: nowhere.

    One JSON line a row. `raw` is the row as it stood, line end included: text where it is UTF-8 (`encoding`
    "utf-8"), otherwise base64. Rows of tables never were text; their fields stand there as JSON (`encoding`
    "json").
    """
    if path is None:
        yield lambda problem, row: None
        return
    with whole(path) as staged, staged.open("w", encoding="utf-8", newline="\n") as file:

        def put(problem: Problem, row: RawRow) -> None:
            record = {**problem.to_json(), "at": row.byte, **_original(row)}
            file.write(json.dumps(record, ensure_ascii=True) + "\n")

        yield put


def original_bytes(path: Path) -> list[tuple[str, int, int, bytes]]:
    """Each quarantined row as (file, line, byte offset of the row, original bytes), in order."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise unreadable(str(path), error) from None
    records = [json.loads(line) for line in lines if line]
    return [(item["file"], item["line"], item["at"], _bytes_of(item)) for item in records]


def _original(row: RawRow) -> dict[str, str]:
    if row.byte < 0:
        return {"encoding": "json", "raw": json.dumps(row.values, default=str)}
    try:
        return {"encoding": "utf-8", "raw": row.raw.decode("utf-8")}
    except UnicodeDecodeError:
        return {"encoding": "base64", "raw": base64.b64encode(row.raw).decode()}


def _bytes_of(item: dict[str, Any]) -> bytes:
    return base64.b64decode(item["raw"]) if item["encoding"] == "base64" else item["raw"].encode("utf-8")
