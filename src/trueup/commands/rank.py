"""The command that rates models from battles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter, validators
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from trueup.commands.train import Positive

NotNegative = Annotated[float, Parameter(validator=validators.Number(gte=0))]
Controls = Annotated[tuple[Literal["length", "position"], ...], Parameter(negative="", show_default=False)]
Level = Annotated[float, Parameter(validator=validators.Number(gt=0, lt=1))]


def rank(
    file: str,
    /,
    *,
    ties: Literal["half", "davidson", "rao-kupper"] = "half",
    control: Controls = (),
    prior: NotNegative = 0.0,
    intervals: Literal["sandwich", "bootstrap"] = "sandwich",
    level: Level = 0.95,
    resamples: Positive = 1000,
    seed: int = 0,
    anchor: str | None = None,
    against: str | None = None,
    judge: str | None = None,
    margin: NotNegative = 0.0,
    out: Path | None = None,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Rate models from battles: Bradley-Terry by maximum likelihood, with intervals, ranks and online Elo.

    Parameters
    ----------
    file
        Battles (`a`, `b`, `outcome`), scores (`prompt`, `model`, `score`), or any data whose completions name
        their model as `source`.
    ties
        A tie is half a win of each, or has a probability of its own: Davidson's or Rao and Kupper's.
    control
        Take out what `length` (the longer answer) or `position` (the first shown) does to verdicts; may be
        given twice.
    prior
        Adds α‖β‖² to the loss: a normal prior, where battles alone do not determine the ratings.
    intervals
        `sandwich` or `bootstrap`, both over prompts.
    level
        What share of intervals shall hold the truth.
    resamples
        Of the bootstrap.
    seed
        Of the bootstrap and of the random orders for Elo.
    anchor
        The model that has 1000 points; the average of all otherwise.
    against
        Show every model's win rate against this one too.
    judge
        Use the verdicts of this judge only.
    margin
        Scores that differ by no more are a tie.
    out
        Write a page with a picture to this HTML file.
    as_json
        Print JSON, with every pair's win rate.
    """
    from trueup.ratings import leaderboard as boards
    from trueup.ratings.rank import rank as rated
    from trueup.reports.leaderboard import leaderboard_page

    board = rated(
        file, ties=ties, control=control, prior=prior, intervals=intervals, level=level, resamples=resamples,
        seed=seed, anchor=anchor, against=against, judge=judge, margin=margin,
    )  # fmt: skip
    notes = boards.notes(board)
    if out is not None:
        out.write_text(leaderboard_page(board, notes), encoding="utf-8")
    if as_json:
        print(json.dumps(board, indent=1, ensure_ascii=False))
        return
    console = Console(highlight=False, markup=False)
    _print_ratings(console, board)
    if against is not None:
        _print_wins(console, boards.against(board, against), against)
    for note in notes:
        console.print(_text(note), soft_wrap=True)
    if out is not None:
        console.print(f"picture: {out}", soft_wrap=True)


def _print_ratings(console: Console, board: dict[str, Any]) -> None:
    from trueup.reports.leaderboard import cells, headline, heads

    console.print(_text(headline(board)), soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    first, *others = heads(board)
    table.add_column(first, justify="right", no_wrap=True)
    table.add_column("model", overflow="fold")
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    for model in board["models"]:
        place, *rest = cells(model)
        table.add_row(place, _text(model["model"]), *rest)
    console.print(table)


def _print_wins(console: Console, rows: list[dict[str, Any]], model: str) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("model", overflow="fold")
    for name in (f"wins against {model}", "prompts", "order decided"):
        table.add_column(_text(name), justify="right")
    for row in rows:
        estimate = row["win_rate"]
        (interval,) = (v for k, v in estimate.items() if k.startswith("ci"))
        changed = row["inconsistent"]
        table.add_row(
            _text(row["a"]),
            f"{100 * estimate['mean']:.1f} % [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]",
            str(estimate["n"]),
            "–" if changed is None else f"{100 * changed:.1f} % of {row['prompts_both_orders']}",
        )
    console.print(table)


def _text(content: str) -> Text:
    from trueup.reports.visible import visible

    return Text(visible(content))
