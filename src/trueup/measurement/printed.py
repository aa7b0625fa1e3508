"""A measurement in a terminal: what a person reads in ten seconds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

from trueup.evals.printed import estimate
from trueup.reports.visible import visible

Row = Mapping[str, Any]


def tables(said: Row) -> Iterator[Table]:
    """The tables: the judge that orders the models, all else, and exams where some were sat."""
    by, rows = said["by"], said["models"]
    if by is not None:
        heads = (f"{by}", "over the start", "win / tie / lose", "KL")
        yield _table(heads, [(row["name"], *_judged(row, by)) for row in rows])
    others = [name for name in said["judges"] if name != by]
    heads = (*others, "length", "ended", "refused", "ppl", "distinct-2", "self-BLEU", "entropy")
    yield _table(heads, [(row["name"], *_else(row, others)) for row in rows])
    exams = list(dict.fromkeys(name for row in rows for name in row["exams"]))
    if exams:
        yield _table(exams, [(row["name"], *(_exam(row, name) for name in exams)) for row in rows])


def _judged(row: Row, by: str) -> tuple[str, ...]:
    fought, gain = row["battles"].get(by), row["gain"].get(by)
    shares = "–" if fought is None else " / ".join(f"{100 * fought[k]:.0f}" for k in ("win", "tie", "lose"))
    return (
        estimate(row["scores"][by]) if by in row["scores"] else "–",
        "–" if gain is None else estimate(gain, "+.3f"),
        shares,
        _mean(row["kl"], ".2f"),
    )


def _else(row: Row, others: Sequence[str]) -> tuple[str, ...]:
    diversity = row["diversity"]
    return (
        *(_mean(row["scores"].get(name)) for name in others),
        _mean(row["length"], ".0f"),
        _mean(row["ended"], ".0%"),
        _mean(row["refused"], ".0%"),
        _mean(row["perplexity"], ".2f"),
        _mean(diversity["distinct_2"], ".2f"),
        _mean(diversity["self_bleu"], ".2f"),
        _mean(diversity["entropy"], ".2f"),
    )


def _exam(row: Row, name: str) -> str:
    if name not in row["exams"]:
        return "–"
    tax = row["tax"].get(name)
    return _mean(row["exams"][name]) + ("" if tax is None else f" ({estimate(tax, '+.3f')})")


def _mean(row: Row | None, form: str = ".3f") -> str:
    return "–" if row is None else format(row["mean"], form)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("model", overflow="fold")
    for head in heads:
        table.add_column(visible(head), justify="right", no_wrap=False, overflow="fold")
    for row in rows:
        table.add_row(*map(visible, row))
    return table
