"""The command that rates models from battles."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter, validators
from rich.console import Console

from trueup.commands.options import AsJson, NotNegative, Positive, say
from trueup.errors import TrueupError

if TYPE_CHECKING:
    from trueup.ratings.battles import BattleSet

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
    as_json: AsJson = False,
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
    found = _battles(file, margin, judge)
    from trueup.ratings import leaderboard as boards
    from trueup.ratings.fit import fit_ratings
    from trueup.reports.leaderboard import headline, leaderboard_page
    from trueup.reports.visible import visible

    ratings = fit_ratings(
        found.battles,
        ties=ties,
        alpha=prior,
        controls=tuple(dict.fromkeys(control)),
        anchor=anchor,
        intervals=intervals,
        level=level,
        resamples=resamples,
        seed=seed,
    )
    board = boards.leaderboard(found, ratings, seed=seed)
    if against is not None and against not in {m["model"] for m in board["models"]}:
        raise TrueupError(
            "E428", f"no battle of {against}", where="against", remedy="name a model of the table"
        )
    notes = boards.notes(board)
    if out is not None:
        out.write_text(leaderboard_page(board, notes), encoding="utf-8")
    if as_json:
        print(json.dumps(board, indent=1, ensure_ascii=False))
        return
    say(visible(headline(board)))
    _print_table(*_ratings(board))
    if against is not None:
        _print_table(*_wins(boards.against(board, against), against), no_wrap=False)
    say(*map(visible, notes), *([f"picture: {out}"] if out else []))


def _battles(file: str, margin: float, judge: str | None) -> BattleSet:
    """The battles of a file; those that one judge decided, where it is named."""
    from trueup.ratings.battles import by_judge, read_battles

    try:
        found = read_battles(file, margin=margin)
    except TrueupError as error:
        if error.code != "E202":
            raise
        # What the reader of data would say is of its own formats and of options that are not here.
        remedy = "a battle has a, b and outcome; a score has prompt, model and score"
        raise TrueupError("E202", error.reason, where=error.where, remedy=remedy) from None
    return found if judge is None else by_judge(found, judge)


def _ratings(board: dict[str, Any]) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """The heads and rows of the table of ratings."""
    from trueup.reports.leaderboard import cells, heads

    first, *others = heads(board)
    rows = [(place, model["model"], *rest) for model in board["models"] for place, *rest in [cells(model)]]
    return (first, "model", *others), rows


def _wins(rows: list[dict[str, Any]], model: str) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """The heads and rows of the table of win rates against a model."""
    shown = []
    for row in rows:
        estimate, changed = row["win_rate"], row["inconsistent"]
        (interval,) = (v for k, v in estimate.items() if k.startswith("ci"))
        share = f"{100 * estimate['mean']:.1f} % [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"
        decided = "–" if changed is None else f"{100 * changed:.1f} % of {row['prompts_both_orders']}"
        shown.append((row["a"], share, str(estimate["n"]), decided))
    return ("model", f"wins against {model}", "prompts", "order decided"), shown


def _print_table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, no_wrap: bool = True) -> None:
    """Nothing; prints a table whose models fold where they are long, and whose numbers stand to the right."""
    from rich import box
    from rich.table import Table

    from trueup.reports.visible import visible

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for head in heads:
        if head == "model":
            table.add_column(head, overflow="fold")
        else:
            table.add_column(visible(head), justify="right", no_wrap=no_wrap)
    for row in rows:
        table.add_row(*map(visible, row))
    Console(highlight=False, markup=False, emoji=False).print(table)
