"""Drawings that stand alone in a file: groups of values with their means and intervals, and planes of curves.

An SVG from here carries its own style and needs no page around it; in one, it looks the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from trueup.reports import svg
from trueup.reports.charts import Curve, Point, draw
from trueup.reports.checked import Interval
from trueup.reports.numbers import estimate, plain
from trueup.reports.page import drawing_style
from trueup.reports.svg import Element, Plot, Scale, element
from trueup.reports.visible import visible

WIDTH, NAMES, NUMBERS, MARGIN, ROW, HEIGHT = 720, 190, 64, 24, 30, 260
SLOTS = (2, 6, 5, 3, 4, 0, 9, 7, 8, 1)
"Colours and shapes in the order in which names take them."


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
    frame, plot = _frame(scale, Scale(len(rows), 0.0), ROW * len(rows), NAMES, across, description)
    plot.ticks_across(grid=True)
    if rule is not None:
        plot.stroke("reference", (rule, rule), (len(rows), 0.0))
    for place, row in enumerate(rows):
        slot, middle = SLOTS[place % len(SLOTS)], place + 0.5
        mean = Interval(sum(row.values) / len(row.values), row.low, row.high)
        plot.text(row.name, "name", scale.low, middle, dx=-12, dy=4.5)
        if row.low is not None and row.high is not None:
            plot.stroke(f"whisker c{slot}", (row.low, row.high), (middle, middle))
        for value in row.values:
            plot.spot(Interval(value), Interval(middle), slot, "", size="one")
        said = f"{row.name}: {estimate(mean)}"
        plot.spot(Interval(mean.mean), Interval(middle), slot, said, size="big")
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

    groups = [(name, places, "solid") for name, places in series.items()]
    groups += [(name, places, "") for name, places in (points or {}).items()]
    drawn = [
        Curve(name=name, points=_points(name, places), slot=SLOTS[k % len(SLOTS)], line=line)
        for k, (name, places, line) in enumerate(groups)
    ]
    return plane(drawn, across=across, up=up, description=description)


def plane(drawn: Sequence[Curve], *, across: str, up: str, description: str) -> Markup:
    """Every curve on one plane, drawn in their order, with a legend; `across` and `up` name the axes."""
    every = [point for curve in drawn for point in curve.points]
    wide = svg.scale_for([end for point in every for end in point.x.ends])
    high = svg.scale_for([end for point in every for end in point.y.ends])
    top = 26 + 18 * ((len(drawn) + 1) // 2)
    frame, plot = _frame(wide, high, HEIGHT, NUMBERS, across, description, top=top)
    draw(plot, drawn, target=6)
    for place, curve in enumerate(drawn):
        _key(frame, curve, NUMBERS + 320 * (place % 2), 10 + 18 * (place // 2))
    frame.append(element("text", up, class_="start", x=4, y=top - 10))
    return svg.markup(frame)


def spider(series: Mapping[str, Sequence[float]], spokes: Sequence[str], *, description: str) -> Markup:
    """A closed line for each name through its value on every spoke, three spokes or more, all on one scale.

    The least value of all lies a tenth of the way out, the largest at the end of its spoke.
    """
    every = [value for values in series.values() for value in values]
    low, high = min(every), max(every)
    span = high - low or 1.0
    turns = [2 * math.pi * k / len(spokes) for k in range(len(spokes))]
    directions = [(math.sin(turn), math.cos(turn)) for turn in turns]
    wide = 1.25 * (WIDTH - NUMBERS - MARGIN) / HEIGHT
    top = 34 + 18 * ((len(series) + 1) // 2)
    frame, plot = _frame(Scale(-wide, wide), Scale(-1.25, 1.25), HEIGHT, NUMBERS, "", description, top=top)
    for spoke, (x, y) in zip(spokes, directions, strict=True):
        plot.stroke("reference", (0.0, x), (0.0, y))
        style = "start" if x > 0.1 else "end" if x < -0.1 else ""
        plot.text(spoke, style, 1.08 * x, 1.08 * y, dy=4)
    for place, (name, values) in enumerate(series.items()):
        outs = [0.1 + 0.9 * (value - low) / span for value in values]
        spots = [(out * x, out * y) for out, (x, y) in zip(outs, directions, strict=True)]
        slot = SLOTS[place % len(SLOTS)]
        plot.path([*spots, spots[0]], f"c{slot} solid", title=name)
        for (x, y), spoke, value in zip(spots, spokes, values, strict=True):
            plot.spot(Interval(x), Interval(y), slot, f"{name}: {spoke} {plain(value)}")
        _key(
            frame,
            Curve(name=name, points=(), slot=slot, line="solid"),
            NUMBERS + 320 * (place % 2),
            10 + 18 * (place // 2),
        )
    return svg.markup(frame)


def _points(name: str, places: Sequence[tuple[float, float]]) -> list[Point]:
    return [Point(Interval(x), Interval(y), f"{name}: {plain(x)}, {plain(y)}") for x, y in places]


def _key(frame: Element, curve: Curve, x: float, y: float) -> None:
    """Nothing; the legend's entry of a curve: a stretch of its line, its mark, its name."""
    if curve.line:
        ends = f"{x},{y} {x + 22},{y}"
        frame.append(element("polyline", class_=f"c{curve.slot} {curve.line}", points=ends))
    if curve.marks:
        frame.append(svg.mark(x + 11, y, curve.slot))
    frame.append(element("text", curve.name, class_="start", x=x + 30, y=y + 4))


def _frame(
    wide: Scale, high: Scale, height: float, left: float, across: str, description: str, *, top: float = 12
) -> tuple[Element, Plot]:
    """The drawing with its ground, its style and the name of the axis across, and the plot inside it."""
    frame = element(
        "svg",
        xmlns="http://www.w3.org/2000/svg",
        class_="trueup",
        viewBox=f"0 0 {WIDTH} {top + height + 52:g}",
        width="100%",
        role="img",
        aria_label=visible(description),
    )
    style = element("style")
    style.text = drawing_style()
    plot = element("svg", class_="plot", x=left, y=top, width=WIDTH - left - MARGIN, height=height)
    ground = element("rect", class_="ground", width="100%", height="100%")
    name = element("text", across, x=(left + WIDTH - MARGIN) / 2, y=top + height + 42)
    frame.extend((style, ground, name, plot))
    return frame, Plot(plot, wide, high, height)
