"""The equations of a page of the documentation, read as the site reads them."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token

from page_blocks import DOCS

SITE = DOCS / "site"


class Equation(NamedTuple):
    """The LaTeX between the signs, and whether it stands by itself."""

    latex: str
    block: bool


@cache
def reader() -> MarkdownIt:
    """Markdown as the site reads it: MyST with the settings of docs/site/conf.py. Needs the docs extra."""
    from myst_parser.config.main import MdParserConfig
    from myst_parser.parsers.mdit import create_md_parser

    settings = runpy.run_path(str(SITE / "conf.py"))
    myst = {key.removeprefix("myst_"): value for key, value in settings.items() if key.startswith("myst_")}
    return create_md_parser(MdParserConfig(**myst), MarkdownIt().renderer.__class__)


def tokens(page: Path) -> Iterator[Token]:
    """The tokens of a page, what is inside of lines included."""
    for token in reader().parse(page.read_text(encoding="utf-8")):
        yield token
        yield from token.children or ()


def equations_of(page: Path) -> list[Equation]:
    """The equations of a page in order."""
    found = []
    for token in tokens(page):
        if token.type == "math_inline":
            found.append(Equation(token.content, block=False))
        elif token.type == "math_block" or (token.type == "fence" and token.info.strip() == "math"):
            found.append(Equation(token.content.strip(), block=True))
    return found
