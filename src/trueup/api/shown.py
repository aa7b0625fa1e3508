"""How results show themselves: HTML in a notebook, a frame of pandas on request."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from trueup.errors import EXIT_UNAVAILABLE, TrueupError
from trueup.reports import comparison, headline, verdict
from trueup.reports.record import Interval, read_run
from trueup.reports.visible import visible

if TYPE_CHECKING:
    import pandas

_TABLE = Markup('<table style="text-align:left;font-variant-numeric:tabular-nums">{}{}</table>')
_ROW, _HEAD, _CELL = (
    Markup("<tr>{}</tr>"),
    Markup("<th>{}</th>"),
    Markup("<td style='text-align:left'>{}</td>"),
)
_LINE = Markup("<p>{}</p>")


def first_screen(run_dir: Path) -> str:
    """The first screen of a report as HTML: what a run, or a comparison, found, and its numbers."""
    if (run_dir / comparison.RESULT).is_file():
        return _of_comparison(run_dir)
    run = read_run(run_dir)
    said = headline.trained(run.curves) if run.training_only else headline.headline(run.policies)
    found = [
        (stage, name, f"{value.mean:.4g}", _interval(value))
        for stage, metrics in run.held_out.items()
        for name, value in metrics.items()
    ]
    last = [
        (stage, name, f"{points[-1][1]:.4g}", "")
        for stage, curves in run.curves.items()
        for name, points in curves.items()
        if points and "/" not in name
    ]
    head = ("stage", "number", "value", "95 % interval")
    return page(f"trueup: {run.name}", [said, *run.given], head, found or last)


def _of_comparison(folder: Path) -> str:
    found = comparison.parse(comparison.load(folder))
    rows = [(m.name, m.family, f"{m.gain.mean:+.4g}", _interval(m.gain)) for m in found.methods]
    lines = [verdict.headline(found), *verdict.details(found)]
    return page(f"trueup: {found.name}", lines, ("method", "family", "gain", "95 % interval"), rows)


def _interval(value: Interval) -> str:
    return "" if value.low is None else f"[{value.low:.4g}, {value.high:.4g}]"


def page(
    title: str, lines: Iterable[str], head: Sequence[str] = (), rows: Iterable[Sequence[object]] = ()
) -> str:
    """A fragment of HTML: a title, sentences, and a table. All text is escaped, control characters shown."""
    body = [Markup("<div><b>{}</b>").format(visible(title)), *(_LINE.format(visible(line)) for line in lines)]
    made = [_ROW.format(_joined(_CELL, row)) for row in rows]
    if made:
        body.append(_TABLE.format(_ROW.format(_joined(_HEAD, head)), Markup("").join(made)))
    return str(Markup("").join([*body, Markup("</div>")]))


def _joined(template: Markup, values: Sequence[object]) -> Markup:
    return Markup("").join(template.format(escape(visible(str(value)))) for value in values)


def frame(rows: Iterable[Mapping[str, Any]]) -> pandas.DataFrame:
    """The rows as a frame. Raises E811 where pandas is not installed."""
    try:
        found: Any = importlib.import_module("pandas")
    except ModuleNotFoundError:
        raise TrueupError(
            "E811",
            "pandas is not installed",
            where="frame()",
            remedy="pip install pandas; the numbers are also there as plain values",
            exit_code=EXIT_UNAVAILABLE,
        ) from None
    return found.DataFrame([dict(row) for row in rows])
