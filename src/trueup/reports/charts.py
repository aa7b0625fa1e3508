"""The report's charts: static SVG, no script, hover titles on every point."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from markupsafe import Markup

from trueup.reports import svg
from trueup.reports.headline import label
from trueup.reports.numbers import estimate, nats, plain, squeezed
from trueup.reports.record import FrontierPoint, Interval
from trueup.reports.svg import NUM_STYLES, Plot, Scale, element
from trueup.reports.visible import visible

_SLOTS = {"base": 0, "base_hhh": 1, "sft": 2, "dpo": 4, "ppo": 5}
_BEST_OF_SLOT = 3
ROW = 34
"Height of a row of an interval chart, in pixels."
_MOST_POINTS = 160
_SMALL, _CAPITAL, _GAP, _LINE = 18.0, 23.0, 25.0, 14.0
"Room that letters and a mark (in thousandths of the width) and a line of text (in pixels) are taken to need."


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
) -> Markup | None:
    """A dot and an interval for every row, names on the left, values on the right, a rule at `reference`.

    `write` turns a value into text, `axis` a tick. What the chart shows is read out after its description, in
    place of it. None where no row holds a value.
    """
    ends = [end for row in rows if row.value for end in row.value.ends]
    if not ends:
        return None
    scale = svg.scale_for([*ends, reference] if reference is not None else ends)
    said = "; ".join(f"{label(row.name)} {write(row.value.mean)}" for row in rows if row.value)
    plot = Plot.filling(scale, Scale(len(rows), 0.0), ROW * len(rows), f"{description}: {said}")
    plot.ticks_across(axis, 4, grid=True)
    if reference is not None:
        plot.stroke("reference", (reference, reference), (len(rows), 0.0))
    for place, row in enumerate(rows):
        name, middle = visible(label(row.name)), place + 0.5
        plot.text(squeezed(name, 14), "name", scale.low, middle, dx=-12, dy=4.5)
        if row.value is None:
            plot.text("–", "value none", scale.high, middle, dx=12, dy=4.5)
            continue
        title = f"{name}: {write(row.value.mean)} {_bounds(row.value, write)}"
        plot.spot(row.value, Interval(middle), row.slot, title, whisker="whisker", size="big")
        plot.text(write(row.value.mean), "value", scale.high, middle, dx=12, dy=4.5)
    return plot.markup


def tax_cells(taxes: Mapping[str, Mapping[str, Interval]]) -> dict[str, dict[str, Markup]]:
    """A small interval for every name and exam, all on one scale; decoration beside the written numbers."""
    scale = svg.scale_for([0.0, *(end for tax in taxes.values() for v in tax.values() for end in v.ends)])
    return {name: {exam: _cell(v, scale) for exam, v in tax.items()} for name, tax in taxes.items()}


def _cell(value: Interval, scale: Scale) -> Markup:
    drawing = element("svg", class_=f"cell s{value.sign:+d}", width="100%", height=14, aria_hidden="true")
    plot = Plot(drawing, scale, Scale(14.0, 0.0), 14)
    plot.stroke("zero", (0.0, 0.0), (14.0, 0.0))
    if value.low is not None and value.high is not None:
        plot.stroke("span", (value.low, value.high), (7.0, 7.0))
    drawing.append(element("circle", class_="at", cx=scale.x(value.mean), cy=7, r=3.5))
    return plot.markup


def share_bar(shares: Sequence[float]) -> Markup:
    """Win, tie and lose shares as one bar, won from the left; decoration beside the written numbers."""
    drawing = element("svg", class_="shares", width="100%", height=8, aria_hidden="true")
    left = 0.0
    for style, share in zip(("won", "tied", "lost"), shares, strict=True):
        place = {"x": f"{100 * left:.2f}%", "width": f"{100 * share:.2f}%"}
        drawing.append(element("rect", class_=style, y=0, height=8, **place))
        left += share
    return svg.markup(drawing)


@dataclass(frozen=True, slots=True)
class Point:
    """A place on a plane; its title is said where it is pointed at, its name stands beside it."""

    x: Interval
    y: Interval
    title: str = ""
    name: str = ""
    size: str = "dot"


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Points in the colour and shape of one slot, in order, and the style of the line through them."""

    name: str = ""
    points: Sequence[Point]
    slot: int
    line: str = ""
    "`solid`, `broken` or `filled`; none where it is empty."
    marks: bool = True


def draw(plot: Plot, curves: Sequence[Curve], *, target: int = 5) -> None:
    """Nothing; draws both axes, then every curve in its order, then the names, none over another."""
    plot.ticks_up()
    plot.ticks_across(target=target)
    for curve in curves:
        if curve.line:
            places = [(point.x.mean, point.y.mean) for point in curve.points]
            plot.path(places, f"c{curve.slot} {curve.line}", title="" if curve.marks else curve.name)
        for point in curve.points if curve.marks else ():
            plot.spot(point.x, point.y, curve.slot, point.title, size=point.size)
    taken: list[tuple[float, float, float]] = []
    for point in (point for curve in curves for point in curve.points if point.name):
        _write_beside(plot, point, taken)


def _write_beside(plot: Plot, point: Point, taken: list[tuple[float, float, float]]) -> None:
    """The name to the right of its mark, else to the left, else further up, with a line down to the mark."""
    short = squeezed(visible(point.name), 16)
    at, height = plot.across.thousandths(point.x.mean), plot.y(point.y.mean)
    width = _GAP + sum(_CAPITAL if letter.isupper() else _SMALL for letter in short)

    def free(place: tuple[str, float, float]) -> bool:
        _, low, line = place
        return 0 < low < 1080 - width and not any(
            abs(line - other) < _LINE and low < end and low + width > begin for begin, end, other in taken
        )

    places = [
        (side, at if side == "start" else at - width, height + 4 - lift * _LINE)
        for lift in range(8)
        for side in ("start", "end")
    ]
    side, low, line = next(filter(free, places), places[0])
    taken.append((low, low + width, line))
    across = f"{at / 10:.2f}%"
    if line < height:
        leader = {"x1": across, "x2": across, "y1": line - 4, "y2": height}
        plot.drawing.append(element("line", class_="leader", **leader))
    dx = 9 if side == "start" else -9
    plot.drawing.append(element("text", short, class_=f"spot {side}", x=across, y=line, dx=dx))


def frontier_chart(
    points: Sequence[FrontierPoint],
    slot_of: Mapping[str, int],
    *,
    which: str,
    description: str,
    height: int = 300,
) -> Markup | None:
    """Reward against √KL for every policy, in order of step; `which` is "gold" (with intervals) or "proxy".

    d = √KL(π ‖ π_init) is the distance of Gao 2022. An estimate below zero is drawn at zero, and its
    title says so. None where no point has the reward.
    """
    kept = [(p, reward) for p in points if (reward := _reward(p, which)) is not None]
    if not kept:
        return None
    across = Scale(0.0, svg.scale_for([0.0, *(_distance(p.kl) for p, _ in kept)], pad=0.03).high)
    up = svg.scale_for([end for _, reward in kept for end in reward.ends])
    curves = []
    for name in dict.fromkeys(p.policy for p, _ in kept):
        path = sorted(((p, r) for p, r in kept if p.policy == name), key=lambda pair: pair[0].step)
        drawn = [_frontier_point(p, r, p is path[-1][0], across.high) for p, r in path]
        line = "solid" if which == "gold" else "broken"
        curves.append(Curve(points=drawn, slot=slot_of[name], line=line))
    plot = Plot.filling(across, up, height, description)
    draw(plot, curves)
    return plot.markup


def _frontier_point(p: FrontierPoint, reward: Interval, last: bool, furthest: float) -> Point:
    error = 1.96 * (p.kl_se or 0.0)
    ends = (_distance(p.kl - error), min(_distance(p.kl + error), furthest)) if error else ()
    step = "n" if p.policy.startswith("best_of") else "step"
    far = f"{nats(p.kl)} ± {nats(error)}" if error else nats(p.kl)
    title = f"{label(p.policy)}, {step} {p.step:g}: {estimate(reward)} at KL {far}"
    return Point(Interval(_distance(p.kl), *ends), reward, title, size="big" if last else "dot")


@dataclass(frozen=True, slots=True)
class Spot:
    """A named point; `x_error` is the standard error across."""

    name: str
    slot: int
    x: float | None
    y: Interval | None
    x_error: float | None


def scatter(
    spots: Sequence[Spot],
    *,
    named: Collection[str],
    description: str,
    unit: str,
    height: int = 380,
    from_zero: bool = True,
) -> Markup:
    """Every spot with both its intervals; the names of those in `named` stand beside their marks.

    At least one spot has an x and a y; the axis across begins at 0 unless it is told not to.
    """
    kept = [(s, s.x, s.y) for s in spots if s.x is not None and s.y is not None]
    if from_zero:
        across = Scale(0.0, svg.scale_for([0.0, *(x for _, x, _ in kept)], pad=0.1).high)
    else:
        across = svg.scale_for([x + sign * 1.96 * (s.x_error or 0.0) for s, x, _ in kept for sign in (-1, 1)])
    up = svg.scale_for([end for _, _, y in kept for end in y.ends])
    curves = []
    for spot, x, y in sorted(kept, key=lambda held: held[0].name in named):
        error = 1.96 * (spot.x_error or 0.0)
        wide = Interval(x, max(0.0, x - error), min(x + error, across.high)) if error else Interval(x)
        title = f"{label(spot.name)}: {estimate(y)} at {plain(x)} {unit}"
        beside = label(spot.name) if spot.name in named else ""
        curves.append(Curve(points=[Point(wide, y, title, beside)], slot=spot.slot))
    plot = Plot.filling(across, up, height, description)
    draw(plot, curves)
    return plot.markup


class Line(NamedTuple):
    """A line of a small chart: its points, the colour and shape of its slot, and what it is called."""

    points: Sequence[tuple[float, float]]
    slot: int
    name: str = ""
    style: str = "curve"


def curve_chart(
    points: Sequence[tuple[float, float]], *, description: str, slot: int, height: int = 84
) -> Markup:
    """One metric over steps, with its first and last step and its lowest and highest value written."""
    return curves_chart([Line(points, slot)], description=description, height=height)


def curves_chart(lines: Sequence[Line], *, description: str, height: int = 84) -> Markup:
    """Lines of one metric over one another, first and last step, lowest and highest value written.

    Every line has a point at least, and ends in the mark of its slot.
    """
    kept = [(line, thin(line.points)) for line in lines]
    steps = [step for _, points in kept for step in (points[0][0], points[-1][0])]
    first, last = min(steps), max(steps)
    across = Scale(first, last) if last > first else Scale(first - 1, first + 1)
    values = [value for _, points in kept for _, value in points]
    up = svg.scale_for(values, pad=0.04)
    plot = Plot.filling(across, up, height, description)
    plot.stroke("axis", (across.low, across.high), (up.low, up.low))
    plot.text(plain(max(values)), "tick left", across.low, up.high, dx=-6, dy=8)
    plot.text(plain(min(values)), "tick left", across.low, up.low, dx=-6)
    plot.text(f"{first:g}", "tick start", across.low, up.low, dy=15)
    plot.text(f"{last:g}", "tick end", across.high, up.low, dy=15)
    for line, points in kept:
        plot.path(points, f"c{line.slot} {line.style}")
    for line, points in kept:
        step, value = points[-1]
        title = f"{line.name + ', ' if line.name else ''}step {step:g}: {plain(value)}"
        plot.spot(Interval(step), Interval(value), line.slot, title)
    return plot.markup


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


def _distance(kl: float) -> float:
    return math.sqrt(max(kl, 0.0))


def _bounds(value: Interval, write: Callable[[float], str]) -> str:
    if value.low is None or value.high is None:
        return "(no interval)"
    return f"[{write(value.low)}, {write(value.high)}]"
