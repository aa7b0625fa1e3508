"""Rows made a batch at a time, each batch on disk before the next begins; why some came to nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from trueup.constitution.journal import Journal
from trueup.runs import meter as metering
from trueup.runs.signals import Interrupted


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
