"""A page for a ratings table: one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trueup.reports.charts import Row, interval_chart
from trueup.reports.checked import Interval
from trueup.reports.numbers import MINUS, listed, tick
from trueup.reports.page import page


def leaderboard_page(board: Mapping[str, Any], notes: Sequence[str]) -> str:
    """The page of `ratings.leaderboard`'s values: a chart of the ratings, the table, and the notes."""
    return page("leaderboard.html.j2", details=(), **shown(board, notes))


def shown(board: Mapping[str, Any], notes: Sequence[str]) -> dict[str, Any]:
    """What templates show of a board, by the names that they use."""
    models = board["models"]
    chart = interval_chart(
        [Row(m["model"], 2, Interval(m["rating"], m["low"], m["high"])) for m in models],
        reference=board["scale"]["centre"],
        write=points,
        axis=tick,
        description="Ratings with their intervals, best first",
    )
    level, centre = f"{100 * board['intervals']['level']:g} %", points(board["scale"]["centre"])
    return {
        "headline": headline(board),
        "caption": f"with {level} intervals; the dashed line is {centre} points",
        "chart": chart,
        "heads": ("model", *heads(board)),
        "rows": [(m["model"], *cells(m)) for m in models],
        "notes": notes,
    }


def headline(board: Mapping[str, Any]) -> str:
    """Who leads, in one sentence, and how many may be as good. Whom the points do not part lead together."""
    best = board["models"][0]
    first = [m for m in board["models"] if points(m["rating"]) == points(best["rating"])]
    others = sum(m["rank"] == 1 and m not in first for m in board["models"])
    near = f"{others} other{'s' if others > 1 else ''}"
    if len(first) > 1:
        names = listed(sorted(m["model"] for m in first))
        lead = f"{names} lead with {points(best['rating'])} points each"
        return f"{lead}; {near} may be as good." if others else f"{lead}."
    lead = f"{best['model']} leads with {points(best['rating'])} points"
    return f"{lead}; its interval {f'overlaps with {near}' if others else 'lies above all others'}."


def heads(board: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the columns of `cells`."""
    return "rank", "rating", f"{100 * board['intervals']['level']:g} % interval", "won", "online Elo"


def cells(model: Mapping[str, Any]) -> tuple[str, ...]:
    """One model's row: rank, rating, interval, won, online Elo with its range over orders."""
    first, last = model["rank"], model["rank_worst"]
    return (
        f"{first}" if first == last else f"{first}–{last}",
        points(model["rating"]),
        f"[{points(model['low'])}, {points(model['high'])}]",
        f"{100 * model['wins'] / model['battles']:.1f} %",
        f"{points(model['elo'])} ({points(model['elo_low'])}–{points(model['elo_high'])})",
    )


def points(value: float) -> str:
    """A rating without decimals, a true minus sign."""
    return f"{value:.0f}".replace("-", MINUS)
