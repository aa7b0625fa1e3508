"""The wording of a task: text with places for a row's fields, `{question}`, and no code.

A place is a path into the row (`{doc.query}`, `{choices.0}`), and may name one filter: `{ctx_b|capitalised}`.
`{{` and `}}` are braces.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from trueup.errors import TrueupError

_PIECE = re.compile(r"\{\{|\}\}|\{([\w.-]+)(?:\|(\w+))?\}|[{}]")


def clean(text: str) -> str:
    """The text without WikiHow's artefacts: ` [title]` ends a sentence, other [brackets] go."""
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")


def _last_word(text: str) -> str:
    return _cut(text)[1]


def _without_last_word(text: str) -> str:
    return _cut(text)[0]


def _cut(text: str) -> tuple[str, str]:
    context, space, word = text.rstrip().rpartition(" ")
    if not space or not context:
        raise ValueError("a passage needs at least two words")
    return context, word


FILTERS: Mapping[str, Callable[[str], str]] = {
    "last_word": _last_word,
    "without_last_word": _without_last_word,
    "capitalised": str.capitalize,
    "stripped": str.strip,
    "cleaned": clean,
}
"What a place may do with its text, by name."


def places(template: str) -> Iterator[str]:
    """The paths that a template reads. Raises ValueError for a stray brace or an unknown filter."""
    for found in _PIECE.finditer(template):
        path, name = found.groups()
        if path is not None:
            if name is not None and name not in FILTERS:
                near = difflib.get_close_matches(name, FILTERS, 1)
                hint = f"did you mean `{near[0]}`?" if near else f"there are {', '.join(FILTERS)}"
                raise ValueError(f"no filter `{name}` in {template!r}: {hint}")
            yield path
        elif found.group() in "{}":
            raise ValueError(f"a brace that opens or closes no place in {template!r}: write it twice")


def render(template: str, value: Callable[[str], Any], where: str) -> str:
    """The template with its places filled by `value(path)`. Raises E205 for a value that is no text."""

    def filled(found: re.Match[str]) -> str:
        path, name = found.groups()
        if path is None:
            return found.group()[0]
        text = value(path)
        if isinstance(text, bool) or not isinstance(text, str | int | float):
            raise TrueupError(
                "E205",
                f"`{path}` is {type(text).__name__}, not text",
                where=where,
                remedy="name a text field",
            )
        try:
            return FILTERS[name](str(text)) if name else str(text)
        except ValueError as error:
            raise TrueupError("E206", f"`{path}`: {error}", where=where, remedy="leave the row out") from None

    return _PIECE.sub(filled, template)


def look_up(row: Mapping[str, Any], path: str, where: str) -> Any:
    """The value at a dotted path. Raises E203 where there is none, E206 where it is null."""
    found: Any = row
    for part in path.split("."):
        if isinstance(found, list) and part.isdecimal() and int(part) < len(found):
            found = found[int(part)]
        elif isinstance(found, Mapping) and part in found:
            found = found[part]
        else:
            keys = ", ".join(map(str, found)) if isinstance(found, Mapping) else type(found).__name__
            raise TrueupError(
                "E203",
                f"`{path}` is missing (found: {keys[:120]})",
                where=where,
                remedy="repair the row, or name its column under `items.fields` of the task file",
            )
    if found is None:
        raise TrueupError("E206", f"`{path}` is null", where=where, remedy="repair the row or leave it out")
    return found
