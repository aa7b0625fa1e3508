"""Drawings that stand alone in a file: groups of values with their means and intervals, and curves.

An SVG from here carries its own style and needs no page around it; in one, it looks the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from trueup.reports import svg
from trueup.reports.svg import Scale, element

WIDTH, NAMES, MARGIN, ROW = 720, 190, 24, 30
COLOURS = ("#2a6bb3", "#c03b39", "#2e8b57", "#b07a1e", "#7b52ab", "#4d5966", "#c2559b", "#3aa0a8")
STYLE = """
.frame { font: 13px ui-sans-serif, system-ui, sans-serif; }
.frame text { fill: #565d66; font-size: 13px; text-anchor: start; }
.frame .tick { text-anchor: middle; } .frame .name { fill: #565d66; font-size: 13px; text-anchor: end; }
.frame .ground { fill: #fff; } .frame .grid { stroke: #ebebe6; } .frame .axis { stroke: #b9bab4; }
.frame .zero { stroke: #6b727b; stroke-dasharray: 4 4; }
.frame .one { fill-opacity: .35; } .frame .span { stroke-width: 3; stroke-opacity: .55; }
.frame polyline { fill: none; stroke-width: 2; vector-effect: non-scaling-stroke; }
"""


@dataclass(frozen=True, slots=True)
class Dots:
    """One row: values (one for each seed), and the ends of their mean's interval where there is one."""

    name: str
    values: Sequence[float]
    low: float | None = None
    high: float | None = None


def dots(rows: Sequence[Dots], *, across: str, description: str, rule: float | None = None) -> Markup:
    """A row for each name: its values, their mean and its interval.

    `across` names the axis; `rule` draws a broken line there.
    """
    ends = [v for row in rows for v in (*row.values, row.low, row.high) if v is not None]
    scale = svg.scale_for([*ends, *([rule] if rule is not None else [])])
    height = ROW * len(rows)
    frame, plot = _frame(height + 52, NAMES, height, description)
    for value in svg.ticks(scale, 5):
        x = scale.x(value)
        plot.append(element("line", class_="grid", x1=x, x2=x, y1=0, y2=height))
        plot.append(element("text", f"{value:g}", class_="tick", x=x, y=height + 18))
    if rule is not None:
        plot.append(element("line", class_="zero", x1=scale.x(rule), x2=scale.x(rule), y1=0, y2=height))
    for place, row in enumerate(rows):
        y, colour = ROW * (place + 0.5), COLOURS[place % len(COLOURS)]
        frame.append(element("text", row.name, class_="name", x=NAMES - 12, y=12 + y + 4.5))
        if row.low is not None and row.high is not None:
            ends_at = {"x1": scale.x(row.low), "x2": scale.x(row.high), "y1": y, "y2": y}
            plot.append(element("line", class_="span", stroke=colour, **ends_at))
        for value in row.values:
            plot.append(element("circle", class_="one", cx=scale.x(value), cy=y, r=3.5, fill=colour))
        mean = sum(row.values) / len(row.values)
        plot.append(element("circle", cx=scale.x(mean), cy=y, r=5, fill=colour))
    frame.append(element("text", across, class_="tick", x=(NAMES + WIDTH - MARGIN) / 2, y=height + 48))
    return svg.markup(frame)


def curves(
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    across: str,
    up: str,
    description: str,
    points: Mapping[str, Sequence[tuple[float, float]]] | None = None,
) -> Markup:
    """A line through the (x, y) of every name, in the order given; `points` adds marks without a line."""
    points = points or {}
    every = [p for drawn in (*series.values(), *points.values()) for p in drawn]
    wide, high = svg.scale_for([x for x, _ in every]), svg.scale_for([y for _, y in every])
    names = list(dict.fromkeys([*series, *points]))
    height, top = 260, 20 + 18 * ((len(names) + 1) // 2)
    frame, plot = _frame(height + top + 52, 64, height, description, top=top)
    _axes(plot, wide, high, height)
    for place, name in enumerate(names):
        colour = COLOURS[place % len(COLOURS)]
        if name in series:
            places = [(wide.thousandths(x), high.y(y, height)) for x, y in series[name]]
            drawn = svg.line(places, height, "")
            drawn[0].set("style", f"stroke: {colour}")  # A page's style sheet may set the attribute's value.
            plot.append(drawn)
        for x, y in (*series.get(name, ()), *points.get(name, ())):
            plot.append(element("circle", cx=wide.x(x), cy=high.y(y, height), r=3.5, fill=colour))
        left, down = 64 + 320 * (place % 2), 14 + 18 * (place // 2)
        frame.append(element("circle", cx=left + 5, cy=down - 4, r=5, fill=colour))
        frame.append(element("text", name, x=left + 16, y=down))
    frame.append(element("text", across, class_="tick", x=(64 + WIDTH - MARGIN) / 2, y=height + top + 44))
    frame.append(element("text", up, x=4, y=top - 6))
    return svg.markup(frame)


def _axes(plot: svg.Element, wide: Scale, high: Scale, height: float) -> None:
    for value in svg.ticks(wide, 6):
        plot.append(element("text", f"{value:g}", class_="tick", x=wide.x(value), y=height + 18))
    for value in svg.ticks(high, 5):
        y = high.y(value, height)
        plot.append(element("line", class_="grid", x1="0%", x2="100%", y1=y, y2=y))
        plot.append(element("text", f"{value:g}", class_="name", x=-8, y=y + 4))
    plot.append(element("line", class_="axis", x1="0%", x2="100%", y1=height, y2=height))


def _frame(
    height: float, left: float, plot_height: float, description: str, *, top: float = 12
) -> tuple[svg.Element, svg.Element]:
    """The drawing with its ground and style, and the plot inside it."""
    frame = element(
        "svg",
        xmlns="http://www.w3.org/2000/svg",
        class_="frame",
        viewBox=f"0 0 {WIDTH} {height:g}",
        width="100%",
        role="img",
        aria_label=description,
    )
    style = element("style")
    style.text = STYLE
    frame.append(style)
    frame.append(element("rect", class_="ground", width="100%", height="100%"))
    plot = element(
        "svg", x=left, y=top, width=WIDTH - left - MARGIN, height=plot_height + 30, overflow="visible"
    )
    frame.append(plot)
    return frame, plot
