"""Groups in one memory-mapped Arrow file: written one after another, read by their place, none of them held.

A row has the group's JSON without its arrays in `group`, and in `prompt_tokens`, `tokens` and `supervised`
the arrays of the prompt and of each completion, null where there is none.
"""

from __future__ import annotations

import json
import mmap
import os
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import accumulate, count
from pathlib import Path
from typing import Any

import numpy as np

from trueup.data.problems import file_error
from trueup.engine.groups import Group, from_json, to_json
from trueup.engine.views import View
from trueup.errors import EXIT_IO

Put = Callable[[Group], None]
_BATCH = 4 * 2**20
"Bytes of JSON and tokens that are gathered before they are written as one record batch."
_MAPPED = 1024
"""Groups that are read before the pages they lie on are given back: they stay in the system's cache, but
would count as this process's, up to the whole file."""


@contextmanager
def storing(path: Path) -> Iterator[Put]:
    """A function that appends a group to the file, which is on disk when the block is left.

    Raises TrueupError E120 where the system refuses or has no room.
    """
    import pyarrow as pa

    schema, rows, size = _schema(pa), [], 0
    with refused(path.parent.parent), path.open("wb") as sink:
        with pa.ipc.new_file(sink, schema) as file:

            def flush() -> None:
                columns = zip(schema, zip(*rows, strict=True), strict=True)
                file.write_batch(pa.record_batch([pa.array(c, f.type) for f, c in columns], schema=schema))
                rows.clear()

            def put(group: Group) -> None:
                nonlocal size
                rows.append(_row(group))
                said, prompt, tokens, _ = rows[-1]
                size += len(said) + sum(ids.nbytes for ids in (prompt, *tokens) if ids is not None)
                if size >= _BATCH:
                    # Here too: whoever puts may take an OSError for that of a file of their own.
                    with refused(path.parent.parent):
                        flush()
                    size = 0

            yield put
            if rows:
                flush()
        os.fsync(sink.fileno())


@contextmanager
def refused(folder: Path) -> Iterator[None]:
    """Nothing; raises TrueupError E120 for what the system refuses inside the block."""
    try:
        yield
    except OSError as error:
        reason = f"encoded rows cannot be kept: {error.strerror or type(error).__name__}"
        remedy = "make room, or name another folder with XDG_CACHE_HOME"
        raise file_error("E120", reason, str(folder), remedy, EXIT_IO) from None


def stored(path: Path) -> View:
    """The groups of a file that `storing` wrote, each made of its row when it is asked for.

    What it gives stays readable when the file is moved or removed. Raises OSError for a file that cannot be
    opened, ValueError for one of another shape.
    """
    import pyarrow as pa

    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    reader = pa.ipc.open_file(pa.py_buffer(mapped))
    if not reader.schema.equals(_schema(pa)):
        raise ValueError(f"{path} holds other columns")
    batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
    columns = [batch.columns for batch in batches]
    ends, asked = list(accumulate(batch.num_rows for batch in batches)), count(1)

    def at(place: int) -> Group:
        if next(asked) % _MAPPED == 0 and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)
        k = bisect_right(ends, place)
        row = place - (ends[k - 1] if k else 0)
        return _group(*(column[row] for column in columns[k]))

    return View(ends[-1] if ends else 0, at)


def _schema(pa: Any) -> Any:
    ids, flags = pa.list_(pa.int32()), pa.list_(pa.bool_())
    columns = {
        "group": pa.binary(),
        "prompt_tokens": ids,
        "tokens": pa.list_(ids),
        "supervised": pa.list_(flags),
    }
    return pa.schema(list(columns.items()))


_Arrays = Sequence[np.ndarray | None]


def _row(group: Group) -> tuple[bytes, np.ndarray | None, _Arrays, _Arrays]:
    bare = replace(
        group,
        prompt_tokens=None,
        completions=tuple(replace(c, tokens=None, supervised=None) for c in group.completions),
    )
    # Half a surrogate pair may come from a program, never from a file; it goes in and out alike.
    said = json.dumps(to_json(bare), ensure_ascii=False).encode("utf-8", "surrogatepass")
    tokens, supervised = [c.tokens for c in group.completions], [c.supervised for c in group.completions]
    return said, group.prompt_tokens, tokens, supervised


def _group(said: Any, prompt: Any, tokens: Any, supervised: Any) -> Group:
    row = json.loads(said.as_py())
    row["prompt_tokens"] = _array(prompt)
    for completion, ids, flags in zip(row["completions"], tokens.values, supervised.values, strict=True):
        completion["tokens"], completion["supervised"] = _array(ids), _array(flags)
    return from_json(row)


def _array(numbers: Any) -> np.ndarray | None:
    # A copy: what lies in the file is read-only, and its pages may be given back.
    return None if numbers.values is None else np.array(numbers.values.to_numpy(zero_copy_only=False))
