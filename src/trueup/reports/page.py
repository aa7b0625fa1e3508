"""Pages from templates: one self-contained HTML file each, and what of it is seen first as a fragment.

A page holds no script and names no address: its policy refuses everything but its own styles. All text goes
through `visible` and Jinja's escaping; drawings are built as element trees.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from trueup.engine import disk
from trueup.reports import numbers
from trueup.reports.checked import Interval
from trueup.reports.differences import cut
from trueup.reports.headline import label
from trueup.reports.visible import visible

ROOM = "trueup.reports"


def page(template: str, /, *, room: str = ROOM, **values: Any) -> str:
    """The page that a template makes of some values; a room has templates of its own beside these."""
    return _environment(room).get_template(template).render(values)


@cache
def _environment(room: str) -> Environment:
    def read(file: str) -> str | None:
        found = [path for r in (room, ROOM) if (path := resources.files(r) / file).is_file()]
        return found[0].read_text("utf-8") if found else None

    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        loader=FunctionLoader(read),
    )
    environment.globals["style"] = style
    environment.tests["interval"] = lambda value: isinstance(value, Interval)
    environment.filters.update(
        plain=numbers.plain,
        tally=numbers.tally,
        percent=numbers.percent,
        nats=numbers.nats,
        count=numbers.count,
        duration=numbers.duration,
        memory=numbers.memory,
        scientific=numbers.scientific,
        bounds=lambda value, **how: numbers.between(value.low, value.high, **how),
        label=label,
        squeezed=numbers.squeezed,
        opened=numbers.opened,
        cut=cut,
    )
    return environment


def style(*sheets: str) -> Markup:
    """Style sheets of this folder. They are ours: the one text that is put in unescaped."""
    folder = resources.files(ROOM)
    return Markup("\n".join((folder / f"{sheet}.css").read_text("utf-8") for sheet in sheets))


@cache
def drawing_style() -> str:
    """How drawings look, with the light colours written in: for a file that stands alone."""
    colours, _, rules = style("drawing").partition("}\n")
    light = dict(re.findall(r"(--\w+): light-dark\((#\w+)", colours))
    return re.sub(r"var\((--\w+)\)", lambda match: light[match[1]], rules)


def write_page(text: str, target: Path) -> Path:
    """The path of the page, which appears whole or not at all."""
    disk.make_folder(target.parent)
    disk.write(target, text)
    return target


def _finalize(value: Any) -> Any:
    if isinstance(value, str) and not isinstance(value, Markup):
        return visible(value)
    return "–" if value is None else value
