"""Python source on lines of at most so many columns, and still Python."""

from __future__ import annotations

import io
import re
import textwrap
import tokenize
from collections.abc import Iterator

_FURTHER = 4
"How much deeper the rest of a broken line stands."


def narrow(source: str, width: int = 80) -> str:
    """The same source with long lines broken: comments and texts between words, code between tokens."""
    lines = source.split("\n")
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    text, inside = _text_lines(tokens), set(_inside(tokens))
    out: list[str] = []
    for number, line in enumerate(lines, 1):
        bare = line.strip()
        indent = line[: len(line) - len(line.lstrip())]
        if len(line) <= width:
            out.append(line)
        elif bare.startswith("#"):
            out += _wrapped(bare[1:].strip(), f"{indent}# ", width)
        elif number in text:
            out += _wrapped(bare, indent, width)
        elif found := re.fullmatch(r'(\w* ?=? ?)"([^"\\]*)"(,?)', bare):
            part = number in inside and not found[1]
            deeper = indent if part else indent + " " * _FURTHER
            quoted = list(_quoted(found[2], deeper, width))
            if part:
                out += [*quoted[:-1], quoted[-1] + found[3]]
            else:
                out += [f"{indent}{found[1]}(", *quoted, f"{indent}){found[3]}"]
        else:
            out += _broken(line, indent, [t for t in tokens if t.start[0] == t.end[0] == number], width)
    return "\n".join(out)


def _text_lines(tokens: list[tokenize.TokenInfo]) -> set[int]:
    """The lines of documentation in three quotes, where a word may move to the next line."""
    found: set[int] = set()
    for token in tokens:
        if token.type == tokenize.STRING and token.string.startswith('"""'):
            found |= set(range(token.start[0], token.end[0] + 1))
    return found


def _inside(tokens: list[tokenize.TokenInfo]) -> Iterator[int]:
    """The lines that begin within brackets."""
    depth = 0
    for token in tokens:
        if token.type == tokenize.OP:
            depth += (token.string in "([{") - (token.string in ")]}")
        elif token.type == tokenize.NL and depth:
            yield token.start[0] + 1


def _quoted(text: str, indent: str, width: int) -> Iterator[str]:
    """A text as several, one a line, that Python puts together again."""
    words = re.findall(r"\S+\s*|^\s+", text)
    line = ""
    for word in words:
        if line and len(indent) + len(line) + len(word) + 2 > width:
            yield f'{indent}"{line}"'
            line = ""
        line += word
    yield f'{indent}"{line}"'


def _wrapped(text: str, before: str, width: int) -> list[str]:
    return textwrap.wrap(
        text, width, initial_indent=before, subsequent_indent=before, break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip


def _broken(line: str, indent: str, tokens: list[tokenize.TokenInfo], width: int) -> Iterator[str]:
    """A line of code, broken where a space stands between two tokens; a comment at its end goes before it."""
    comment = next((t for t in tokens if t.type == tokenize.COMMENT), None)
    if comment is not None:
        yield from _wrapped(comment.string[1:].strip(), f"{indent}# ", width)
        line = line[: comment.start[1]].rstrip()
    depth, spots, formatted = 0, {}, 0
    for token in tokens:
        kind = tokenize.tok_name[token.type]
        formatted += {"FSTRING_START": 1, "FSTRING_END": -1}.get(kind, 0)
        column = token.start[1]
        if not formatted and column and line[column - 1 : column] == " ":
            spots[column] = depth > 0
        depth += (token.string in "([{") - (token.string in ")]}") if kind == "OP" else 0
    start, before = 0, ""
    while len(before) + len(line) - start > width:
        room = width - 2 - len(before) + start
        fitting = [c for c in spots if start + len(indent) < c <= room]
        if not fitting:
            break
        inside = [c for c in fitting if spots[c]]
        column = max(inside or fitting)
        yield before + line[start:column].rstrip() + ("" if spots[column] else " \\")
        start, before = column, indent + " " * _FURTHER
    yield before + line[start:]
