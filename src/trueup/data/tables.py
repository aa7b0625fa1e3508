"""Rows of Parquet and Arrow files: already fields, so only types and text are checked."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from trueup.data import strict_json
from trueup.data.problems import Fault, file_error, printable
from trueup.data.raw_rows import RawRow, unreadable

TABLE_SUFFIXES = (".parquet", ".arrow")
OWN_KEY = b"trueup"
"The schema's metadata key that marks a file that `write` made."
_BATCH = 1024


def table_rows(path: Path, name: str) -> Iterator[RawRow]:
    """The rows of a Parquet or Arrow file, numbered from 1. Raises TrueupError E113 for a damaged file."""
    import pyarrow as pa

    number = 0
    try:
        for batch in _batches(pa, path):
            own = OWN_KEY in (batch.schema.metadata or {})
            for values in batch.to_pylist():
                number += 1
                yield _own_row(name, number, values) if own else table_row(name, number, values)
    except pa.ArrowException as error:
        reason = f"the file is damaged: {printable(str(error))[:120]}"
        raise file_error("E113", reason, name, "copy or write it again; nothing was read") from None
    except OSError as error:
        raise unreadable(name, error) from None


def table_row(name: str, number: int, values: Mapping[str, Any]) -> RawRow:
    """One row of a table: nulls and non-finite floats, which stand for nothing there, are left out."""
    try:
        plain = _plain(values)
        strict_json.check_strings(plain)
    except Fault as fault:
        return RawRow(name, number, -1, b"", {str(key): str(item) for key, item in values.items()}, fault)
    return RawRow(name, number, -1, b"", plain)


def _batches(pa: Any, path: Path) -> Iterator[Any]:
    if path.name.lower().endswith(".parquet"):
        from pyarrow import parquet

        # A row group may be larger than memory: its pages are read as they are needed.
        with parquet.ParquetFile(path, pre_buffer=False, buffer_size=2**20) as file:
            yield from file.iter_batches(batch_size=_BATCH)
        return
    with pa.memory_map(str(path)) as source:
        try:
            reader = pa.ipc.open_stream(source)
        except pa.ArrowInvalid:
            source.seek(0)
            file = pa.ipc.open_file(source)
            reader = map(file.get_batch, range(file.num_record_batches))
        for batch in reader:  # One batch may be the whole table.
            yield from (batch.slice(start, _BATCH) for start in range(0, batch.num_rows, _BATCH))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        kept = {str(key): _plain(item) for key, item in value.items()}
        return {key: item for key, item in kept.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int | bool):
        return value
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


def _own_row(name: str, number: int, values: dict[str, Any]) -> RawRow:
    """A row of our own Parquet: its maps as objects, and `meta`, nulls included, read out of its JSON."""
    for completion in values.get("completions") or ():
        for key in ("columns", "marks"):
            if completion.get(key) is not None:
                completion[key] = dict(completion[key])
    row = table_row(name, number, values)
    if row.fault is None and "meta" in row.values:
        try:
            row.values["meta"] = strict_json.loads(str(row.values["meta"]).encode())
        except Fault as fault:
            fault.field, fault.offset = "meta", 0
            return replace(row, fault=fault)
    return row
