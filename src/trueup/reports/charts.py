"""The report's charts: static SVG, no script, hover titles on every point."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from trueup.reports import numbers, svg
from trueup.reports.headline import label
from trueup.reports.numbers import between, nats, plain
from trueup.reports.record import FrontierPoint, Interval
from trueup.reports.svg import NUM_STYLES, Scale, element
from trueup.reports.visible import visible

_SLOTS = {"base": 0, "base_hhh": 1, "sft": 2, "dpo": 4, "ppo": 5}
_BEST_OF_SLOT = 3
ROW = 34
"Height of a row of an interval chart, in pixels."
_MOST_POINTS = 160


@dataclass(frozen=True, slots=True)
class Row:
    """A line of an interval chart; a value that was not measured leaves the line empty."""

    name: str
    slot: int
    value: Interval | None


def slots(names: Sequence[str]) -> dict[str, int]:
    """A colour and shape for every policy: the usual names keep theirs in every report."""
    fixed = {n: _BEST_OF_SLOT if re.match(r"best_of_", n) else _SLOTS.get(n) for n in names}
    others = [name for name in names if fixed[name] is None]
    first = len(_SLOTS) + 1
    free = {name: first + i % (NUM_STYLES - first) for i, name in enumerate(others)}
    return {name: slot if slot is not None else free[name] for name, slot in fixed.items()}


def interval_chart(
    rows: Sequence[Row],
    *,
    reference: float | None,
    write: Callable[[float], str],
    axis: Callable[[float], str],
    description: str,
) -> Markup:
    """A dot and an interval for every row, names on the left, values on the right, a rule at `reference`.

    `write` turns a value into text, `axis` a tick. At least one row holds a value.
    """
    ends = [end for row in rows if row.value for end in _ends(row.value)]
    scale = svg.scale_for([*ends, reference] if reference is not None else ends)
    height = ROW * len(rows)
    drawing = svg.canvas(height, description)
    for value in svg.ticks(scale, 4):
        x = scale.x(value)
        drawing.append(element("line", class_="grid", x1=x, x2=x, y1=0, y2=height))
        drawing.append(element("text", axis(value), class_="tick", x=x, y=height + 18))
    if reference is not None:
        x = scale.x(reference)
        drawing.append(element("line", class_="reference", x1=x, x2=x, y1=-4, y2=height + 2))
    for place, row in enumerate(rows):
        _interval_row(drawing, row, scale, ROW * (place + 0.5), write)
    return svg.markup(drawing)


def _interval_row(
    drawing: svg.Element, row: Row, scale: Scale, y: float, write: Callable[[float], str]
) -> None:
    name = visible(label(row.name))
    short = name if len(name) <= 16 else name[:15] + "…"
    drawing.append(element("text", short, class_="name", x=-12, y=y + 4.5))
    value = row.value
    if value is None:
        drawing.append(element("text", "–", class_="value none", x="100%", dx=12, y=y + 4.5))
        return
    if value.low is not None and value.high is not None:
        low, high = scale.x(value.low), scale.x(value.high)
        drawing.append(element("line", class_=f"whisker c{row.slot}", x1=low, x2=high, y1=y, y2=y))
    title = f"{name}: {write(value.mean)} {_bounds(value, write)}"
    drawing.append(svg.mark(scale.x(value.mean), y, row.slot, title, emphasis=True))
    drawing.append(element("text", write(value.mean), class_="value", x="100%", dx=12, y=y + 4.5))


def interval_cell(value: Interval, scale: Scale) -> Markup:
    """A small interval with a rule at zero, for a table cell; decoration beside the written numbers."""
    drawing = element("svg", class_=f"cell s{value.sign:+d}", width="100%", height=14, aria_hidden="true")
    drawing.append(element("line", class_="zero", x1=scale.x(0), x2=scale.x(0), y1=0, y2=14))
    if value.low is not None and value.high is not None:
        drawing.append(
            element("line", class_="span", x1=scale.x(value.low), x2=scale.x(value.high), y1=7, y2=7)
        )
    drawing.append(element("circle", class_="at", cx=scale.x(value.mean), cy=7, r=3.5))
    return svg.markup(drawing)


def tax_scale(taxes: Iterable[Mapping[str, Interval]]) -> Scale:
    """One scale for all cells of the tax table, zero included."""
    values = [end for tax in taxes for value in tax.values() for end in _ends(value)]
    return svg.scale_for([0.0, *values])


def frontier_chart(
    points: Sequence[FrontierPoint],
    slot_of: Mapping[str, int],
    *,
    which: str,
    description: str,
    height: int = 300,
) -> Markup:
    """Reward against √KL for every policy, in order of step; `which` is "gold" (with intervals) or "proxy".

    d = √KL(π ‖ π_init) is the distance of Gao 2022. An estimate below zero is drawn at zero, and its
    title says so.
    """
    shown = [(p, _reward(p, which)) for p in points]
    kept = [(p, reward) for p, reward in shown if reward is not None]
    ends = [end for _, reward in kept for end in _ends(reward)]
    across = svg.scale_for([0.0, *(_distance(p.kl) for p, _ in kept)], pad=0.03)
    across = Scale(0.0, across.high)
    up = svg.scale_for(ends)
    drawing = svg.canvas(height, description)
    axes(drawing, across, up, height)
    for name in dict.fromkeys(p.policy for p, _ in kept):
        path = sorted(((p, r) for p, r in kept if p.policy == name), key=lambda pair: pair[0].step)
        places = [(across.thousandths(_distance(p.kl)), up.y(r.mean, height)) for p, r in path]
        drawing.append(svg.line(places, height, f"c{slot_of[name]} {which}"))
        for p, r in path:
            _frontier_point(drawing, p, r, slot_of[name], (across, up, height), p is path[-1][0])
    return svg.markup(drawing)


def _frontier_point(
    drawing: svg.Element,
    p: FrontierPoint,
    r: Interval,
    slot: int,
    plot: tuple[Scale, Scale, int],
    last: bool,
) -> None:
    across, up, height = plot
    x, y = across.x(_distance(p.kl)), up.y(r.mean, height)
    if r.low is not None and r.high is not None:
        y1, y2 = up.y(r.low, height), up.y(r.high, height)
        drawing.append(element("line", class_=f"thin c{slot}", x1=x, x2=x, y1=y1, y2=y2))
    if p.kl_se:
        left, right = _distance(p.kl - 1.96 * p.kl_se), _distance(p.kl + 1.96 * p.kl_se)
        x1, x2 = across.x(left), across.x(min(right, across.high))
        drawing.append(element("line", class_=f"thin c{slot}", x1=x1, x2=x2, y1=y, y2=y))
    error = f" ± {nats(1.96 * p.kl_se)}" if p.kl_se else ""
    step = "n" if p.policy.startswith("best_of") else "step"
    title = f"{label(p.policy)}, {step} {p.step:g}: {_bounds_of(r)} at KL {nats(p.kl)}{error}"
    drawing.append(svg.mark(x, y, slot, title, emphasis=last))


def axes(drawing: svg.Element, across: Scale, up: Scale, height: int) -> None:
    """Nothing; draws both axes with their ticks and a grid for the vertical one."""
    for value in svg.ticks(up, 5):
        y = up.y(value, height)
        drawing.append(element("line", class_="grid", x1=0, x2="100%", y1=y, y2=y))
        drawing.append(element("text", numbers.tick(value), class_="tick left", x=-8, y=y + 4))
    for value in svg.ticks(across, 5):
        drawing.append(element("text", numbers.tick(value), class_="tick", x=across.x(value), y=height + 18))
    drawing.append(element("line", class_="axis", x1=0, x2="100%", y1=height, y2=height))


def curve_chart(
    points: Sequence[tuple[float, float]], *, description: str, slot: int, height: int = 84
) -> Markup:
    """One metric over steps, with its first and last step and its lowest and highest value written."""
    kept = thin(points)
    across = (
        Scale(kept[0][0], kept[-1][0]) if kept[-1][0] > kept[0][0] else Scale(kept[0][0] - 1, kept[0][0] + 1)
    )
    values = [value for _, value in kept]
    up = svg.scale_for(values, pad=0.04)
    drawing = svg.canvas(height, description)
    drawing.append(element("line", class_="axis", x1=0, x2="100%", y1=height, y2=height))
    for value, y in ((max(values), 8), (min(values), height)):
        drawing.append(element("text", plain(value), class_="tick left", x=-6, y=y))
    for step, anchor in ((points[0][0], "start"), (points[-1][0], "end")):
        x = "0%" if anchor == "start" else "100%"
        drawing.append(element("text", f"{step:g}", class_=f"tick {anchor}", x=x, y=height + 15))
    places = [(across.thousandths(step), up.y(value, height)) for step, value in kept]
    drawing.append(svg.line(places, height, f"c{slot} curve"))
    last_step, last = kept[-1]
    drawing.append(
        svg.mark(across.x(last_step), up.y(last, height), slot, f"step {last_step:g}: {plain(last)}")
    )
    return svg.markup(drawing)


def thin(points: Sequence[tuple[float, float]], most: int = _MOST_POINTS) -> list[tuple[float, float]]:
    """At most `most` of the points: the lowest and highest of each stretch stay, so no spike is lost."""
    if len(points) <= most:
        return list(points)
    inner, per = points[1:-1], (most - 2) // 2
    kept = [points[0]]
    for part in range(per):
        stretch = inner[len(inner) * part // per : len(inner) * (part + 1) // per]
        kept.extend(sorted({min(stretch, key=lambda p: p[1]), max(stretch, key=lambda p: p[1])}))
    return [*kept, points[-1]]


def evenly(points: Sequence[FrontierPoint], most: int = 40) -> list[FrontierPoint]:
    """At most `most` points of every policy, evenly spaced over its steps, first and last included."""
    kept: list[FrontierPoint] = []
    for name in dict.fromkeys(point.policy for point in points):
        path = sorted((point for point in points if point.policy == name), key=lambda point: point.step)
        last, num = len(path) - 1, min(most, len(path))
        kept.extend(path[round(k * last / max(1, num - 1))] for k in range(num))
    return kept


def _reward(point: FrontierPoint, which: str) -> Interval | None:
    if which == "gold":
        return point.gold
    return None if point.proxy is None else Interval(point.proxy)


def _ends(value: Interval) -> list[float]:
    return [end for end in (value.mean, value.low, value.high) if end is not None]


def _distance(kl: float) -> float:
    return math.sqrt(max(kl, 0.0))


def _bounds(value: Interval, write: Callable[[float], str]) -> str:
    if value.low is None or value.high is None:
        return "(no interval)"
    return f"[{write(value.low)}, {write(value.high)}]"


def _bounds_of(value: Interval) -> str:
    return (
        f"{plain(value.mean)} {between(value.low, value.high)}"
        if value.low is not None
        else plain(value.mean)
    )
