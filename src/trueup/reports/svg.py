"""The drawing vocabulary of every chart and figure: scales, marks, and a plane to put values on.

Horizontal places are percentages and vertical ones pixels, so a chart fills a phone or a wide screen without
scaling its labels. Elements are built as a tree and serialised once, so no text can become markup. Looks are
those of `drawing.css`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from markupsafe import Markup

from trueup.reports import numbers
from trueup.reports.checked import Interval
from trueup.reports.visible import visible

Element = ElementTree.Element
NUM_STYLES = 10
_MARKS = (
    "M-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0-9 0Z",
    "M-4-4H4V4H-4Z",
    "M0-5.5L5 4H-5Z",
    "M0-5.5L5.5 0L0 5.5L-5.5 0Z",
    "M0 5.5L5-4H-5Z",
)
_SIZES = {"dot": 0.8, "one": 0.6, "big": 1.3}


@dataclass(frozen=True, slots=True)
class Scale:
    """Where a value lies between `low` and `high`, in percent of the width (or from the top, in pixels)."""

    low: float
    high: float

    def x(self, value: float) -> str:
        """The horizontal place of `value`."""
        return f"{100 * self._share(value):.2f}%"

    def y(self, value: float, height: float) -> float:
        """The vertical place of `value` in a plot of `height` pixels, 0 at the top."""
        return round(height * (1 - self._share(value)), 1)

    def thousandths(self, value: float) -> float:
        """The horizontal place of `value` in the 1000 units of `Plot.path`."""
        return round(1000 * self._share(value), 1)

    def _share(self, value: float) -> float:
        return (value - self.low) / (self.high - self.low)


def scale_for(values: Sequence[float], *, pad: float = 0.06) -> Scale:
    """A scale that holds all `values` with a margin of `pad` of their range on both sides."""
    low, high = min(values), max(values)
    room = (high - low) * pad or abs(high) * 0.1 or 1.0
    return Scale(low - room, high + room)


def ticks(scale: Scale, target: int = 5) -> list[float]:
    """Round numbers inside the scale, as near to `target` of them as steps of 1, 2, 2.5 or 5 · 10^k allow."""
    span = scale.high - scale.low
    power = 10.0 ** math.floor(math.log10(span / target))
    step = min((power * m for m in (1, 2, 2.5, 5, 10)), key=lambda s: abs(span / s - target))
    first = math.ceil(scale.low / step - 1e-9)
    last = math.floor(scale.high / step + 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def element(tag: str, text: str = "", **attributes: str | float) -> Element:
    """An SVG element; `class_` is `class`, other underscores become hyphens, `text` is made visible."""
    names = {"class_": "class", "viewBox": "viewBox", "preserveAspectRatio": "preserveAspectRatio"}
    made = Element(tag, {names.get(k, k.replace("_", "-")): _value(v) for k, v in attributes.items()})
    if text:
        made.text = visible(text)
    return made


@dataclass(frozen=True, slots=True)
class Plot:
    """A plane to draw on: a place is a value of `across` and one of `up`, which may run downward."""

    drawing: Element
    across: Scale
    up: Scale
    height: float

    @staticmethod
    def filling(across: Scale, up: Scale, height: float, description: str) -> Plot:
        """An empty plot as wide as what holds it; `description` is read out in place of it."""
        drawing = element(
            "svg", class_="plot", width="100%", height=height, role="img", aria_label=visible(description)
        )
        return Plot(drawing, across, up, height)

    @property
    def markup(self) -> Markup:
        """The drawing as HTML."""
        return markup(self.drawing)

    def y(self, value: float) -> float:
        """The vertical place of a value of `up`."""
        return self.up.y(value, self.height)

    def stroke(self, style: str, x: tuple[float, float], y: tuple[float, float]) -> None:
        """Nothing; draws a straight line."""
        (x1, x2), (y1, y2) = map(self.across.x, x), map(self.y, y)
        self.drawing.append(element("line", class_=style, x1=x1, x2=x2, y1=y1, y2=y2))

    def text(self, content: str, style: str, x: float, y: float, *, dx: float = 0, dy: float = 0) -> None:
        """Nothing; writes a text so many pixels from a place."""
        placed = {"x": self.across.x(x), "y": self.y(y) + dy, "dx": dx}
        self.drawing.append(element("text", content, class_=style, **placed))

    def ticks_across(
        self, write: Callable[[float], str] = numbers.tick, target: int = 5, *, grid: bool = False
    ) -> None:
        """Nothing; writes numbers below the plot, with a line up from each where there is a grid."""
        for value in ticks(self.across, target):
            if grid:
                self.stroke("grid", (value, value), (self.up.low, self.up.high))
            self.text(write(value), "tick", value, self.up.low, dy=18)

    def ticks_up(self) -> None:
        """Nothing; writes numbers on the left with a line across from each, and draws the lower edge."""
        ends = (self.across.low, self.across.high)
        for value in ticks(self.up, 5):
            self.stroke("grid", ends, (value, value))
            self.text(numbers.tick(value), "tick left", self.across.low, value, dx=-8, dy=4)
        self.stroke("axis", ends, (self.up.low, self.up.low))

    def path(self, points: Sequence[tuple[float, float]], style: str, title: str = "") -> None:
        """Nothing; draws a line through the points, stretched to the width but not in thickness."""
        holder = element(
            "svg",
            class_="stretch",
            width="100%",
            height=self.height,
            viewBox=f"0 0 1000 {self.height:g}",
            preserveAspectRatio="none",
        )
        places = " ".join(f"{self.across.thousandths(x):g},{self.y(y):g}" for x, y in points)
        line = element("polyline", class_=style, points=places)
        if title:
            line.append(element("title", title))
        holder.append(line)
        self.drawing.append(holder)

    def spot(
        self, x: Interval, y: Interval, slot: int, title: str, *, whisker: str = "thin", size: str = "dot"
    ) -> None:
        """Nothing; draws a point in the colour and shape of its slot, with the intervals it has."""
        if y.low is not None and y.high is not None:
            self.stroke(f"{whisker} c{slot}", (x.mean, x.mean), (y.low, y.high))
        if x.low is not None and x.high is not None:
            self.stroke(f"{whisker} c{slot}", (x.low, x.high), (y.mean, y.mean))
        self.drawing.append(mark(self.across.x(x.mean), self.y(y.mean), slot, title, size=size))


def mark(x: str | float, y: float, slot: int, title: str = "", *, size: str = "dot") -> Element:
    """The mark of a slot; with a title it has a comfortable area to point at."""
    holder = element("svg", class_=f"mark c{slot}", x=x, y=y)
    shape = _MARKS[slot % len(_MARKS)]
    holder.append(element("path", d=shape, class_=size, transform=f"scale({_SIZES[size]:g})"))
    if title:
        area = element("circle", class_="hover", r=11)
        area.append(element("title", title))
        holder.append(area)
    return holder


def swatch(slot: int) -> Markup:
    """The mark of a slot alone, for legends and table rows; the text beside it says the same."""
    drawing = element("svg", class_=f"swatch c{slot}", viewBox="-7 -7 14 14", aria_hidden="true")
    drawing.append(element("path", d=_MARKS[slot % len(_MARKS)], class_="dot"))
    return markup(drawing)


def markup(drawing: Element) -> Markup:
    """The drawing as HTML."""
    return Markup(ElementTree.tostring(drawing, encoding="unicode"))


def _value(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:g}"
