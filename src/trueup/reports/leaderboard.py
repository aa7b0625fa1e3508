"""A page for a ratings table: one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from markupsafe import Markup

from trueup.reports.charts import Row, interval_chart
from trueup.reports.numbers import MINUS, tick
from trueup.reports.record import Interval
from trueup.reports.visible import visible

_PAGE = Markup("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header>
<div class="eyebrow"><p><b>trueup</b> ratings</p></div>
<h1>{title}</h1>
</header>
<main>
<figure><figcaption><b>Rating</b>{caption}</figcaption><div class="frame rows">{chart}</div></figure>
<div class="scroll" tabindex="0"><table>
<thead><tr>{heads}</tr></thead>
<tbody>{rows}</tbody>
</table></div>
<ul class="details">{notes}</ul>
</main>
</body>
</html>
""")
_LINE = Markup("<tr><th>{}</th>{}</tr>\n")
_CELL = Markup("<td>{}</td>")
_HEAD = Markup("<th>{}</th>")
_NOTE = Markup("<li>{}</li>")


def leaderboard_page(board: Mapping[str, Any], notes: Sequence[str]) -> str:
    """The page of `evals.leaderboard`'s values: a chart of the ratings, the table, and the notes."""
    models = board["models"]
    chart = interval_chart(
        [Row(m["model"], 2, Interval(m["rating"], m["low"], m["high"])) for m in models],
        reference=board["scale"]["centre"],
        write=points,
        axis=tick,
        description="Ratings with their intervals, best first",
    )
    level = f"{100 * board['intervals']['level']:g} %"
    rows = [_LINE.format(visible(m["model"]), _join(_CELL, cells(m))) for m in models]
    # The style sheet is ours: it is the one string that is put in unescaped.
    style = Markup((resources.files("trueup.reports") / "report.css").read_text("utf-8"))
    return _PAGE.format(
        title=visible(headline(board)),
        style=style,
        caption=f"with {level} intervals; the dashed line is {points(board['scale']['centre'])} points",
        chart=chart,
        heads=_join(_HEAD, ("model", *heads(board))),
        rows=Markup("").join(rows),
        notes=_join(_NOTE, [visible(note) for note in notes]),
    )


def _join(template: Markup, texts: Sequence[str]) -> Markup:
    return Markup("").join(template.format(text) for text in texts)


def headline(board: Mapping[str, Any]) -> str:
    """Who leads, in one sentence, and how many may be as good. Whom the points do not part lead together."""
    best = board["models"][0]
    first = [m for m in board["models"] if points(m["rating"]) == points(best["rating"])]
    others = sum(m["rank"] == 1 and m not in first for m in board["models"])
    if len(first) > 1:
        *names, last = sorted(m["model"] for m in first)
        lead = f"{', '.join(names)} and {last} lead with {points(best['rating'])} points each"
        return (
            f"{lead}." if not others else f"{lead}; {others} other{'s' if others > 1 else ''} may be as good."
        )
    lead = f"{best['model']} leads with {points(best['rating'])} points"
    if not others:
        return f"{lead}; its interval lies above all others."
    return f"{lead}; its interval overlaps with {others} other{'s' if others > 1 else ''}."


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
