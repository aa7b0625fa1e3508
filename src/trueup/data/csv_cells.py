"""CSV records out of physical lines: quotes as in RFC 4180, a stray quote costs one row, not the file."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from typing import Literal

from trueup.data.problems import Fault, show

_RECORD_CAP = 2**20
"How many bytes an open quote is followed before the line that opened it is called bad."
_CELL = rb'(?:"(?:[^"]|"")*+"|(?!"))[^,]*+'
_CLOSED = re.compile(rb"%b(?:,%b)*+" % (_CELL, _CELL))
_REST_OF_QUOTED = re.compile(rb'(?:[^"]|"")*+"')
_QUOTED_OR_NOT = re.compile(r'(?:"((?:[^"]|"")*+)"|(?!"))([^,]*+),')


def join_lines(lines: Iterator[bytes]) -> Iterator[tuple[bytes, int, bool]]:
    """Each record's bytes, the number of lines it takes, and whether its quotes close."""
    waiting: deque[bytes] = deque()

    def take() -> bytes | None:
        return waiting.popleft() if waiting else next(lines, None)

    while (first := take()) is not None:
        taken, size, state = [first], len(first), _state(first, inside=False)
        while state == "open" and size <= _RECORD_CAP and (line := take()) is not None:
            taken.append(line)
            size += len(line)
            state = _state(line, inside=True)
        if state == "closed":
            yield b"".join(taken), len(taken), True
        else:
            waiting.extendleft(reversed(taken[1:]))
            yield first, 1, False


def _state(raw: bytes, *, inside: bool) -> Literal["open", "closed", "broken"]:
    """Whether the line ends in an open quote; broken when text follows the quote it came in with."""
    start = 0
    if inside:
        close = _REST_OF_QUOTED.match(raw)
        if close is None:
            return "open"
        start = close.end()
        if raw[start : start + 1] not in (b",", b"\r", b"\n", b""):
            return "broken"
    return "closed" if _CLOSED.fullmatch(raw, start) else "open"


def cells(record: str) -> list[str]:
    """The cells of one record. Raises Fault E115 for text behind a closing quote."""
    found: list[str] = []
    for match in _QUOTED_OR_NOT.finditer(record.removesuffix("\n").removesuffix("\r") + ","):
        quoted, rest = match.groups()
        if quoted is not None and rest:
            remedy = 'double it: a quote in a cell is ""'
            raise Fault("E115", "text behind a closing quote", found=show(rest), remedy=remedy)
        found.append(rest if quoted is None else quoted.replace('""', '"'))
    return found
