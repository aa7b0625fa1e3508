"""How results show themselves: HTML in a notebook, a frame of pandas on request."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from trueup.errors import TrueupError
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
        ) from None
    return found.DataFrame([dict(row) for row in rows])
