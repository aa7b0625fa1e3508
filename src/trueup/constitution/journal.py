"""Rows kept as they come, a batch at a time, so that a run that was killed goes on to the same rows."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trueup.engine import disk
from trueup.errors import TrueupError
from trueup.runs import meter as metering
from trueup.runs.signals import Interrupted


@dataclass(frozen=True, kw_only=True)
class Journal:
    """A JSONL file: a line that names what made it, then one record a row, in order.

    Batches are the unit: a sample depends on its seed and its place in the batch, so a batch that was cut
    short is made again, whole, and comes out the same.
    """

    path: Path
    total: int
    "How many rows there will be."
    batch: int
    made_by: Mapping[str, Any]
    "Everything that the rows depend on; rows of another making are refused."

    @property
    def digest(self) -> str:
        """A SHA-256 over what makes the rows, and how they are batched."""
        text = json.dumps([self.made_by, self.total, self.batch], ensure_ascii=False, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def resume(self) -> list[dict[str, Any]]:
        """The rows of all whole batches; what comes after them is cut off.

        Raises E723 for a file that other settings, another model or other prompts made.
        """
        head = self._line({"made_by": self.digest})
        lines = self.path.read_bytes().splitlines(keepends=True) if self.path.is_file() else []
        if lines and not lines[-1].endswith(b"\n"):
            lines.pop()
        if lines and lines[0] != head:
            raise TrueupError(
                "E723",
                "these rows were made with other settings, prompts or models",
                where=str(self.path),
                remedy="choose another --out, or remove the folder",
            )
        rows = lines[1:]
        kept = rows if len(rows) >= self.total else rows[: len(rows) // self.batch * self.batch]
        # Cut, not written anew: where the disk is full, or a kill comes between, no row is lost.
        if self.path.is_file():
            disk.cut(self.path, sum(map(len, (*lines[:1], *kept))))
        if not lines:
            disk.append(self.path, head, synced=True)
        return [json.loads(line) for line in kept]

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Nothing; the rows of one batch are on disk."""
        disk.append(self.path, b"".join(self._line(row) for row in rows), synced=True)

    def _line(self, row: Mapping[str, Any]) -> bytes:
        return (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n").encode()


def fill(
    journal: Journal,
    make: Callable[[range], list[dict[str, Any]]],
    *,
    label: str,
    stop_requested: Callable[[], str],
) -> list[dict[str, Any]]:
    """All rows of a journal, those on disk first; `make` gives the rows of each further batch.

    Raises Interrupted between two batches, where a stop is requested.
    """
    records = journal.resume()
    with metering.progress(journal.total, label, done=len(records)) as progressed:
        while len(records) < journal.total:
            if stop_requested():
                raise Interrupted(len(records), stop_requested())
            start = len(records)
            made = make(range(start, min(start + journal.batch, journal.total)))
            journal.add(made)
            records += made
            progressed(len(made))
    return records


def tally(under: str, reasons: Iterable[str]) -> dict[str, float]:
    """How often each reason was given, as `under/REASON`, in the order of their names."""
    found = Counter(reason.replace(" ", "_") for reason in reasons)
    return {f"{under}/{reason}": float(count) for reason, count in sorted(found.items())}
