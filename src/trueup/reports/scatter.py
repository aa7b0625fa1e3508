"""One number against another for many names, each point with its intervals, some named beside it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from trueup.reports import svg
from trueup.reports.charts import axes
from trueup.reports.checked import Interval
from trueup.reports.headline import label
from trueup.reports.numbers import between, plain
from trueup.reports.svg import Scale, element
from trueup.reports.visible import visible

_LETTER, _LINE = 15.0, 14.0
"Room a letter (in thousandths of the width) and a line of text (in pixels) are taken to need."


@dataclass(frozen=True, slots=True)
class Spot:
    """A named point; `x_error` is the standard error across."""

    name: str
    slot: int
    x: float | None
    y: Interval | None
    x_error: float | None


def scatter(
    spots: Sequence[Spot], *, named: Collection[str], description: str, unit: str, height: int = 380
) -> Markup:
    """Every spot with both its intervals; the names of those in `named` stand beside their marks.

    At least one spot has an x and a y; the axis across begins at 0.
    """
    kept = [(s, s.x, s.y) for s in spots if s.x is not None and s.y is not None]
    across = Scale(0.0, svg.scale_for([0.0, *(x for _, x, _ in kept)], pad=0.1).high)
    up = svg.scale_for([end for _, _, y in kept for end in (y.mean, y.low, y.high) if end is not None])
    drawing = svg.canvas(height, description)
    axes(drawing, across, up, height)
    taken: list[tuple[float, float, float]] = []
    for spot, x, y in sorted(kept, key=lambda held: held[0].name in named):
        _draw(drawing, spot, x, y, (across, up, height), unit)
        if spot.name in named:
            _write(drawing, visible(label(spot.name)), (across.thousandths(x), up.y(y.mean, height)), taken)
    return svg.markup(drawing)


def _draw(
    drawing: svg.Element,
    spot: Spot,
    value: float,
    reward: Interval,
    plot: tuple[Scale, Scale, int],
    unit: str,
) -> None:
    across, up, height = plot
    x, y = across.x(value), up.y(reward.mean, height)
    if reward.low is not None and reward.high is not None:
        y1, y2 = up.y(reward.low, height), up.y(reward.high, height)
        drawing.append(element("line", class_=f"thin c{spot.slot}", x1=x, x2=x, y1=y1, y2=y2))
    if spot.x_error:
        left, right = (across.x(max(0.0, value + sign * 1.96 * spot.x_error)) for sign in (-1, 1))
        drawing.append(element("line", class_=f"thin c{spot.slot}", x1=left, x2=right, y1=y, y2=y))
    bounds = f" {between(reward.low, reward.high)}" if reward.low is not None else ""
    title = f"{label(spot.name)}: {plain(reward.mean)}{bounds} at {plain(value)} {unit}"
    drawing.append(svg.mark(x, y, spot.slot, title))


def _write(
    drawing: svg.Element, name: str, at: tuple[float, float], taken: list[tuple[float, float, float]]
) -> None:
    """The name beside its mark, where no earlier name is: to the right, else to the left, else further up.

    A name that stands further up has a line down to its mark.
    """
    short = name if len(name) <= 22 else name[:21] + "…"
    x, y = at
    width = _LETTER * len(short)
    places = [(side, y + 4 - lift * _LINE) for lift in range(8) for side in ("start", "end")]

    def free(place: tuple[str, float]) -> bool:
        side, line = place
        low, high = (x, x + width) if side == "start" else (x - width, x)
        inside = low > 0 and high < 1080
        return inside and not any(
            abs(line - other) < _LINE and low < end and high > begin for begin, end, other in taken
        )

    side, line = next(filter(free, places), places[0])
    taken.append((x, x + width, line) if side == "start" else (x - width, x, line))
    across = f"{x / 10:.2f}%"
    if line < y:
        drawing.append(element("line", class_="leader", x1=across, x2=across, y1=line - 4, y2=y))
    drawing.append(
        element("text", short, class_=f"spot {side}", x=across, y=line, dx=9 if side == "start" else -9)
    )
