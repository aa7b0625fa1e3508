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
from typing import Any, final

import numpy as np

from trueup.data.problems import file_error
from trueup.engine.groups import Group, from_json, to_json
from trueup.engine.views import View
from trueup.errors import EXIT_IO

Put = Callable[[Group], None]
_BATCH = 4 * 2**20
"Bytes of JSON and tokens that are gathered before they are written as one record batch."
_MAPPED = 64
"""Groups that are made before the pages they lie on are given back: they stay in the system's cache, but
would count as this process's, some 64 KiB for every place that is touched."""


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
    batches = [_Batch(reader.get_batch(number)) for number in range(reader.num_record_batches)]
    ends, asked = list(accumulate(batch.size for batch in batches)), count(1)

    def at(place: int) -> Group:
        if next(asked) % _MAPPED == 0 and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)
        k = bisect_right(ends, place)
        return batches[k].group(place - (ends[k - 1] if k else 0))

    return View(ends[-1] if ends else 0, at)


def _schema(pa: Any) -> Any:
    ids, flags = pa.list_(pa.int32()), pa.list_(pa.int8())
    arrays = {"prompt_tokens": ids, "tokens": pa.list_(ids), "supervised": pa.list_(flags)}
    return pa.schema([("group", pa.binary()), *arrays.items()])


_Arrays = Sequence[np.ndarray | None]


def _row(group: Group) -> tuple[bytes, np.ndarray | None, _Arrays, _Arrays]:
    bare = replace(
        group,
        prompt_tokens=None,
        completions=tuple(replace(c, tokens=None, supervised=None) for c in group.completions),
    )
    # Half a surrogate pair may come from a program, never from a file; it goes in and out alike.
    said = json.dumps(to_json(bare), ensure_ascii=False).encode("utf-8", "surrogatepass")
    flags = [None if c.supervised is None else c.supervised.view(np.int8) for c in group.completions]
    return said, group.prompt_tokens, [c.tokens for c in group.completions], flags


@final
class _Batch:
    """A record batch as arrays over the file's own bytes."""

    def __init__(self, batch: Any) -> None:
        said, prompt, tokens, supervised = batch.columns
        _, ends, text = said.buffers()
        self.size: int = batch.num_rows
        self._text, self._ends = memoryview(text), np.frombuffer(ends, np.int32)
        self._prompt, self._tokens, self._supervised = map(_Lists, (prompt, tokens.values, supervised.values))
        self._completions = tokens.offsets.to_numpy()

    def group(self, row: int) -> Group:
        said = json.loads(str(self._text[self._ends[row] : self._ends[row + 1]], "utf-8", "surrogatepass"))
        said["prompt_tokens"] = self._prompt[row]
        for k, completion in enumerate(said["completions"], self._completions[row]):
            completion["tokens"], completion["supervised"] = self._tokens[k], self._supervised[k]
        return from_json(said)


@final
class _Lists:
    """A column of lists of numbers."""

    def __init__(self, column: Any) -> None:
        self._values, self._ends = column.values.to_numpy(), column.offsets.to_numpy()
        self._absent = column.is_null().to_numpy(zero_copy_only=False) if column.null_count else None

    def __getitem__(self, k: int) -> np.ndarray | None:
        if self._absent is not None and self._absent[k]:
            return None
        # A copy: what lies in the file is read-only, and its pages may be given back.
        return self._values[self._ends[k] : self._ends[k + 1]].copy()
