"""An evaluation as text: a table, and the notes that it has no room for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table

from trueup.errors import counted
from trueup.reports.visible import visible


def table_of(document: Mapping[str, Any]) -> Table:
    """The figures of an evaluation, one row for each task; it fits a terminal of 80 columns.

    Metric and chance stand in it where no other policy does, and the metric after a task that has several;
    these and versions are in what `--out` and `--json` write.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    compared = document["against"] is not None
    heads = ("value", "other", "difference", "") if compared else ("metric", "value", "chance")
    for head in ("task", "n", *heads):
        # A narrow terminal folds words, never a number.
        words = head in ("task", "metric")
        table.add_column(head, justify="right" if head == "n" else "left", no_wrap=not words, overflow="fold")
    names = [row["task"] for row in document["tasks"]]
    for row in document["tasks"]:
        cells = [row["task"], str(row["items"])]
        if compared:
            cells[0] += f" {row['metric']}" * (names.count(row["task"]) > 1)
            gap = row.get("difference")
            other = f"{row['against']['mean']:.3f}" if "against" in row else "–"
            cells += [f"{row['value']['mean']:.3f}", other]
            cells += (
                ["–", ""] if gap is None else [estimate(gap, "+.3f"), gap["verdict"].removesuffix(" seen")]
            )
        else:
            chance = "–" if row["chance"] is None else f"{row['chance']:.3f}"
            cells += [row["metric"], estimate(row["value"]), chance]
        table.add_row(*map(visible, cells))
    return table


def estimate(row: Mapping[str, Any], form: str = ".3f") -> str:
    """An estimate as JSON holds it, as text: `0.250 [0.210, 0.290]`."""
    interval, mean = row["ci95"], format(row["mean"], form)
    return mean if interval is None else f"{mean} [{interval[0]:{form}}, {interval[1]:{form}}]"


def notes(row: Mapping[str, Any], document: Mapping[str, Any]) -> list[str]:
    """What the table has no room for: items that were cut, other figures, how was sampled, demonstrations."""
    lines = []
    for key, model in (("cut", document["model"]), ("against_cut", document["against"])):
        cut = row.get(key)
        if cut and cut["items"]:
            whose = f" for {model}" if document["against"] else ""
            items, tokens = counted(row["items"], "item"), counted(cut["context"], "token")
            lines.append(f"{cut['items']} of {items} cut to {tokens}{whose}")
    if row["also"]:
        lines.append(", ".join(f"{name} {value:.4g}" for name, value in row["also"].items()))
    if "left_out" in row:
        rest = (
            f"; {counted(row['left_out'], 'item is', 'items are')} in no whole group"
            if row["left_out"]
            else ""
        )
        lines.append(f"n counts groups of items that must all be right{rest}")
    if "sampling" in row:
        lines.append(_sampled(row["sampling"], document["seed"]))
    if "shots" in row:
        shots = row["shots"]
        spread = "" if shots["sd"] is None else f", standard deviation between draws {shots['sd']:.3f}"
        means = ", ".join(f"{mean:.3f}" for mean in shots["means"])
        lines.append(f"{counted(len(shots['rows'][0]), 'demonstration')}, means of draws {means}{spread}")
    if "against" in row and row["difference"] is None:
        lines.append("not paired: the figure is no mean over items")
    lines += filter(None, [row.get("note")])
    return [f"{row['task']}: {line}" for line in lines]


def _sampled(how: Mapping[str, Any], seed: int) -> str:
    count = f"{counted(how['samples'], 'sample')}, up to {counted(how['max_new_tokens'], 'token')}"
    if how.get("greedy"):
        return f"{count}, greedy"
    shown = [
        f"{name.replace('_', '-')} {how[name]:g}" for name in ("temperature", "top_k", "top_p") if name in how
    ]
    return f"{count}, {', '.join(shown)}, seed {seed}"
