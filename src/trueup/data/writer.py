"""Groups to files: JSONL or Parquet by the suffix, and nothing of a group is lost on the way."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trueup.data.formats.group import SHAPE
from trueup.data.problems import file_error, printable
from trueup.data.tables import OWN_KEY
from trueup.engine import disk
from trueup.engine.groups import Group, to_json
from trueup.errors import EXIT_IO, TrueupError

_BATCH = 512


def write(path: str | Path, groups: Iterable[Group]) -> int:
    """How many groups were written to `path`, `.jsonl` or `.parquet`; the file is complete or not there.

    Raises TrueupError E111 for another suffix, E105 or E108 for a group that holds a number that is not
    finite or text that is not Unicode, E102 where the system refuses.
    """
    count = 0
    with writing(path) as put:
        for group in groups:
            put(group)
            count += 1
    return count


@contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[Callable[[Group], None]]:
    """A function that takes one group more for the file at `path`, which is complete in the end or not there.

    What waits to be written is at most 512 groups. Raises as `write` does.
    """
    path = Path(path)
    kinds = {".jsonl": _jsonl, ".parquet": _parquet}
    kind = kinds.get(path.suffix.lower())
    if kind is None:
        raise file_error("E111", "unknown kind of file", str(path), "end the name in .jsonl or .parquet")
    with whole(path) as staged, kind(staged) as put:
        yield put


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Where to write what is to be at `path`: it is moved there once it is complete, or it is nowhere.

    Raises TrueupError E102 where the system refuses.
    """
    try:
        with disk.aside(path) as staged:
            yield staged
    except OSError as error:
        reason = f"cannot be written: {error.strerror or type(error).__name__}"
        remedy = "check the path, its permissions and the free space"
        raise file_error("E102", reason, str(path), remedy, EXIT_IO) from None


def _line(group: Group, number: int) -> tuple[dict[str, Any], bytes]:
    row = to_json(group)
    try:
        text = json.dumps(row, ensure_ascii=False, allow_nan=False)
        return row, text.encode("utf-8")
    except UnicodeEncodeError:
        code, reason = "E108", "text with half of a surrogate pair"
    except (ValueError, TypeError, RecursionError) as error:
        code, reason = "E105", f"a value that JSON cannot hold: {error}"
    raise TrueupError(code, reason, where=f"group {number} {printable(group.id)}", remedy="mend the group")


@contextmanager
def _jsonl(path: Path) -> Iterator[Callable[[Group], None]]:
    numbers = itertools.count(1)
    with path.open("wb") as file:

        def put(group: Group) -> None:
            file.write(_line(group, next(numbers))[1] + b"\n")

        yield put


@contextmanager
def _parquet(path: Path) -> Iterator[Callable[[Group], None]]:
    import pyarrow as pa
    from pyarrow import parquet

    schema, numbers, waiting = _schema(pa), itertools.count(1), list[dict[str, Any]]()

    def put(group: Group) -> None:
        waiting.append(_parquet_row(_line(group, next(numbers))[0]))
        if len(waiting) == _BATCH:
            flush()

    def flush() -> None:
        file.write_batch(pa.RecordBatch.from_pylist(waiting, schema=schema))
        waiting.clear()

    with parquet.ParquetWriter(path, schema) as file:
        yield put
        if waiting:
            flush()


def _parquet_row(row: dict[str, Any]) -> dict[str, Any]:
    made = {**row, "meta": json.dumps(row["meta"], ensure_ascii=False) if "meta" in row else None}
    made["completions"] = [
        {**item, **{key: list(item[key].items()) for key in ("columns", "marks") if key in item}}
        for item in row["completions"]
    ]
    return made


def _schema(pa: Any) -> Any:
    """The Arrow schema of a group's row; what has no type of its own there is text."""
    numbers, tokens = pa.list_(pa.float64()), pa.list_(pa.int32())
    leaves = {"truth": pa.bool_(), "number": pa.float64(), "numbers": numbers, "index": pa.int32()}
    leaves |= {"tokens": tokens, "flags": pa.list_(pa.int8())}

    def arrow(shape: Any) -> Any:
        if isinstance(shape, str):
            return leaves.get(shape, pa.string())
        if isinstance(shape, list):
            return pa.list_(arrow(shape[0]))
        if "*" in shape:
            return pa.map_(pa.string(), arrow(shape["*"]))
        return pa.struct([(name.strip("?"), arrow(inner)) for name, inner in shape.items()])

    return pa.schema(list(arrow(SHAPE)), metadata={OWN_KEY: b"group/1"})
