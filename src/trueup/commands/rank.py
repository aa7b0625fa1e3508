"""The command that rates models from battles."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter, validators
from rich.console import Console

from trueup.commands.early import check_file
from trueup.commands.options import AsJson, NotNegative, Positive, say, say_json
from trueup.engine import disk

Controls = Annotated[
    tuple[Literal["length", "position", "style"], ...], Parameter(negative="", show_default=False)
]
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
        Battles (`a`, `b`, `outcome`), votes of Chatbot Arena, annotations of AlpacaEval, scores (`prompt`,
        `model`, `score`), or any data whose completions name their model as `source`.
    ties
        A tie is half a win of each, or has a probability of its own: Davidson's or Rao and Kupper's.
    control
        Take out what `length` (the longer answer), `position` (the first shown) or `style` (headers, lists,
        bold) does to verdicts; may be given for each.
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
    if not Path(file).exists():
        check_file(Path(file), "a file of battles")
    from trueup.ratings import leaderboard as boards
    from trueup.ratings.rank import rank as rated
    from trueup.reports.leaderboard import leaderboard_page

    board = rated(
        file, ties=ties, control=control, prior=prior, intervals=intervals, level=level, resamples=resamples,
        seed=seed, anchor=anchor, against=against, judge=judge, margin=margin,
    )  # fmt: skip
    if out is not None:
        disk.write(out, leaderboard_page(board, boards.notes(board)))
    if as_json:
        say_json(board)
        return
    print_board(board, against)
    say(*([f"picture: {out}"] if out else []))


def print_board(board: dict[str, Any], against: str | None = None) -> None:
    """Nothing; prints who leads, the table of ratings, that of wins against a model, and the notes."""
    from trueup.ratings import leaderboard as boards
    from trueup.reports.leaderboard import headline
    from trueup.reports.visible import visible

    say(visible(headline(board)))
    _print_table(*_ratings(board))
    if against is not None:
        _print_table(*_wins(boards.against(board, against), against), no_wrap=False)
    say(*map(visible, boards.notes(board)))


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
