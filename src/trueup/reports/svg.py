"""Small SVG pieces that keep their text size at any page width.

Horizontal places are percentages and vertical ones pixels, so a chart fills a phone or a wide screen without
scaling its labels. Elements are built as a tree and serialised once, so no text can become markup.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from markupsafe import Markup

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
        """The horizontal place of `value` in the 1000 units of `line`."""
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


def canvas(height: float, description: str) -> Element:
    """An empty drawing as wide as its container; `description` is read out in place of it."""
    return element(
        "svg", class_="plot", width="100%", height=height, role="img", aria_label=visible(description)
    )


def line(points: Sequence[tuple[float, float]], height: float, style: str) -> Element:
    """A polyline through (thousandths of the width, pixels), stretched to the width but not in thickness."""
    holder = element(
        "svg",
        class_="stretch",
        width="100%",
        height=height,
        viewBox=f"0 0 1000 {height:g}",
        preserveAspectRatio="none",
    )
    path = " ".join(f"{x:g},{y:g}" for x, y in points)
    holder.append(element("polyline", class_=style, points=path))
    return holder


def mark(x: str, y: float, slot: int, title: str, *, emphasis: bool = False) -> Element:
    """A data point in the colour and shape of its slot, with a hover title and a comfortable hover area."""
    holder = element("svg", class_=f"mark c{slot}", x=x, y=y)
    holder.append(element("path", d=_MARKS[slot % len(_MARKS)], class_="big" if emphasis else "dot"))
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
