r"""Equations of the pages as MathML, made when the site is: reading them needs no script and no network.

A page writes `$\pi_\theta$` inside a line, and what stands by itself in a fence of the language `math`: both
are read by MyST and by GitHub. What the converter does not know is a warning at its line, and so an error of
the build.
"""

from html import escape
from typing import Any

from docutils import nodes
from math_core import LatexError, LatexToMathML
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)
converter = LatexToMathML(fancy_error=False)


def mathml(latex: str, *, block: bool) -> str:
    """The `<math>` element of an equation; raises LatexError where it does not parse."""
    return converter.convert_with_local_state(latex, displaystyle=block)


def written(node: nodes.Element, *, block: bool) -> str:
    """The equation, or after a warning its source."""
    try:
        return mathml(node.astext(), block=block)
    except LatexError as error:
        logger.warning("no equation: %s in %s", error, node.astext(), location=node)
        return f"<code>{escape(node.astext())}</code>"


def inline(writer: Any, node: nodes.math) -> None:
    """Writes an equation inside a line; called by Sphinx."""
    writer.body.append(written(node, block=False))
    raise nodes.SkipNode


def display(writer: Any, node: nodes.math_block) -> None:
    """Writes an equation that stands by itself, in a box that scrolls where the page is narrower."""
    writer.body.append(f'<div class="equation">{written(node, block=True)}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", (inline, None), (display, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
