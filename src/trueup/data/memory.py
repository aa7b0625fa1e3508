"""Rows that are in memory already: lists, frames of pandas and polars, Arrow tables, Hugging Face data sets.

They are rows like those of a file, with the same checks; a row's line is its number, from 1.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from trueup.data.problems import Fault, show
from trueup.data.raw_rows import RawRow
from trueup.data.tables import table_row
from trueup.engine.groups import Group, to_json
from trueup.errors import EXIT_MISSING, TrueupError


def name_of(source: object) -> str:
    """What a source is called in errors and ids: a path as it is, `DataFrame`, `list` ..."""
    is_path = isinstance(source, str) or hasattr(source, "__fspath__")
    return str(source) if is_path else type(source).__name__


def memory_rows(source: Any, split: str) -> Iterator[RawRow]:
    """The rows of an object. Raises E751 for one that holds none, E102 for a split that it does not have."""
    name = name_of(source)
    for number, value in enumerate(_values(source, split), 1):
        row = _row(value)
        if isinstance(row, dict):
            yield table_row(name, number, row)
        else:
            fault = Fault(
                "E201", "the row is not an object", found=show(row), remedy="give a dictionary for each row"
            )
            yield RawRow(name, number, -1, b"", {"row": str(row)}, fault)


def to_lines(source: Any, split: str) -> bytes:
    """The rows as JSON Lines: what a file of them would hold, good rows and bad ones.

    Raises E751 for an object that holds no rows, E102 for a split that it does not have.
    """
    rows = map(_row, _values(source, split))
    kept = (table_row("", 1, row).values if isinstance(row, dict) else row for row in rows)
    return b"".join(_line(row) for row in kept)


def _line(row: Any) -> bytes:
    try:
        return json.dumps(row, ensure_ascii=False, default=str).encode() + b"\n"
    except UnicodeEncodeError:  # half of a surrogate pair: the reader refuses it by its escape
        return json.dumps(row, default=str).encode() + b"\n"


def _values(source: Any, split: str) -> Iterator[Any]:
    """Each row as the object gives it."""
    package = type(source).__module__.partition(".")[0]
    if package == "datasets" and isinstance(source, Mapping):
        if split not in source:
            raise TrueupError(
                "E102",
                f"the data set has no {split!r} split (it has: {', '.join(map(str, source))})",
                where=name_of(source),
                remedy="name one of them: split=...",
                exit_code=EXIT_MISSING,
            )
        source = source[split]
    if package == "polars":
        source = source.collect() if hasattr(source, "collect") else source
        return source.iter_rows(named=True)
    if package == "pandas" and hasattr(source, "itertuples"):
        return _frame_rows(source)
    if package == "pyarrow" and hasattr(source, "to_batches"):
        return (row for batch in source.to_batches() for row in batch.to_pylist())
    if isinstance(source, Iterable) and not isinstance(source, Mapping | bytes) and package != "pandas":
        return iter(source)
    raise TrueupError(
        "E751",
        f"a {type(source).__name__} holds no rows",
        where=name_of(source),
        remedy="give a path, a list of dictionaries, a frame of pandas or polars, or a data set",
    )


def _frame_rows(frame: Any) -> Iterator[dict[str, Any]]:
    columns = [str(column) for column in frame.columns]
    if len(set(columns)) < len(columns):
        raise TrueupError(
            "E751", "two columns have one name", where=name_of(frame), remedy="rename one of them"
        )
    return (dict(zip(columns, row, strict=True)) for row in frame.itertuples(index=False, name=None))


def _row(value: Any) -> Any:
    """A row as plain values; a text alone is a user's turn, and messages alone are a prompt."""
    if isinstance(value, Group):
        return to_json(value)
    plain = _native(value)
    if isinstance(plain, str):
        return {"prompt": [{"role": "user", "content": plain}]}
    return {"prompt": plain} if isinstance(plain, list) else plain


def _native(value: Any) -> Any:
    """The value with arrays as lists, NumPy's scalars as Python's, and pandas' missing values as None."""
    if isinstance(value, Mapping):
        return {key: _native(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_native(item) for item in value]
    if isinstance(value, np.ndarray):
        return _native(value.tolist())
    if isinstance(value, np.generic):
        return value.item()
    return None if type(value).__name__ in ("NAType", "NaTType") else value
