"""A measurement in a terminal: what a person reads in ten seconds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

from trueup.evals.printed import estimate
from trueup.reports.visible import visible

Row = Mapping[str, Any]
WIDTH = 78
"Cells of a table, gaps between them included; the frame takes two more columns of the 80 of a terminal."
HEAD = 14
"A longer head is folded, unless its cells are longer."
NAME = 24
"Of a model's name; a longer one is folded."


def tables(said: Row) -> Iterator[Table]:
    """The tables: the judge that orders the models, all else, and exams where some were sat.

    None is wider than 80 columns: what has no room in one stands in the next, and a number is never folded.
    """
    by, rows = said["by"], said["models"]
    if by is not None:
        heads = (by, *(("over the start", "win/tie/lose", "KL") if said["start"] else ()))
        yield from _tables(heads, [(row["name"], *_judged(row, by)[: len(heads)]) for row in rows])
    others = [name for name in said["judges"] if name != by]
    heads = (*others, "length", "ended", "refused", "ppl", "distinct-2", "self-BLEU", "entropy")
    yield from _tables(heads, [(row["name"], *_else(row, others)) for row in rows])
    sat = [(row, name) for name in _exams(rows) for row in rows if name in row["exams"]]
    if sat:
        heads = ("exam", "score", *(("over the start",) if said["start"] else ()))
        cells = [(row["name"], *_exam(row, name)[: len(heads)]) for row, name in sat]
        yield from _tables(heads, cells, words=1)


def _judged(row: Row, by: str) -> tuple[str, ...]:
    fought, gain = row["battles"].get(by), row["gain"].get(by)
    shares = "–" if fought is None else "/".join(f"{100 * fought[k]:.0f}" for k in ("win", "tie", "lose"))
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


def _exams(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row["exams"]))


def _exam(row: Row, name: str) -> tuple[str, str, str]:
    """An exam's name, the score, and what it is over the start's on the same items: below 0 a tax."""
    tax = row["tax"].get(name)
    return name, estimate(row["exams"][name]), "–" if tax is None else estimate(tax, "+.3f")


def _mean(row: Row | None, form: str = ".3f") -> str:
    return "–" if row is None else format(row["mean"], form)


def _tables(heads: Sequence[str], rows: Sequence[Sequence[str]], words: int = 0) -> Iterator[Table]:
    """The columns in as many tables as they need, models in each; the first `words` are no numbers."""
    heads, cells = list(map(visible, heads)), [list(map(visible, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    wide = [max(width, min(len(head), HEAD)) for head, width in zip(heads, widths[1:], strict=True)]
    left = list(range(len(heads)))
    while left:
        room = WIDTH - max(len("model"), min(widths[0], NAME))
        taken = 1
        while taken < len(left) and sum(wide[i] + 1 for i in left[: taken + 1]) <= room:
            taken += 1
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
        table.add_column("model", overflow="fold", max_width=NAME)
        for i in left[:taken]:
            is_word = i < words
            table.add_column(
                heads[i],
                justify="left" if is_word else "right",
                overflow="fold",
                min_width=None if is_word else widths[i + 1],
                max_width=NAME if is_word else wide[i],
            )
        for row in cells:
            table.add_row(row[0], *(row[i + 1] for i in left[:taken]))
        yield table
        left = left[taken:]
