"""The style of an answer, as Chatbot Arena counts it: Markdown's headers, list items and bold passages."""

from __future__ import annotations

import re
from typing import NamedTuple

_CODE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_HEADERS = re.compile(r"^#{1,6}[ \t]+\S", re.MULTILINE)
_LISTS = re.compile(r"^[ \t]*(?:[-*+]|\d+\.)[ \t]+\S", re.MULTILINE)
_BOLD = re.compile(r"\*\*[^*\n]+\*\*|__[^_\n]+__")


class Style(NamedTuple):
    """How much of each a text has."""

    headers: float
    lists: float
    bold: float


STYLE = Style._fields
"The controls that `style` stands for."


def style_of(text: str) -> Style:
    """The counts of a text, code between fences left out."""
    bare = _CODE.sub("", text)
    return Style(*(float(len(pattern.findall(bare))) for pattern in (_HEADERS, _LISTS, _BOLD)))
