"""CSV records out of physical lines: quotes as in RFC 4180, a stray quote costs one row, not the file."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from typing import Literal

from trueup.data.problems import Fault, show

_RECORD_CAP = 2**20
"How many bytes an open quote is followed before the line that opened it is called bad."
_REST_OF_QUOTED = re.compile(rb'(?:[^"]|"")*+"')
_QUOTED = re.compile(r'"((?:[^"]|"")*+)"')


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
    pos = 0
    came_in = inside
    if not inside and raw.startswith(b'"'):
        inside, pos = True, 1
    while True:
        if inside:
            close = _REST_OF_QUOTED.match(raw, pos)
            if close is None:
                return "open"
            pos = close.end()
            if came_in and raw[pos : pos + 1] not in (b",", b"\r", b"\n", b""):
                return "broken"
            came_in = False
        comma = raw.find(b",", pos)
        if comma < 0:
            return "closed"
        pos = comma + 1
        inside = raw[pos : pos + 1] == b'"'
        pos += inside


def cells(record: str) -> list[str]:
    """The cells of one record. Raises Fault E115 for text behind a closing quote."""
    record = record.removesuffix("\n").removesuffix("\r")
    found: list[str] = []
    pos = 0
    while True:
        quoted = _QUOTED.match(record, pos)
        comma = record.find(",", quoted.end() if quoted else pos)
        end = comma if comma >= 0 else len(record)
        if quoted is None:
            found.append(record[pos:end])
        elif quoted.end() == end:
            found.append(quoted.group(1).replace('""', '"'))
        else:
            text, remedy = show(record[quoted.end() : end]), 'double it: a quote in a cell is ""'
            raise Fault("E115", "text behind a closing quote", found=text, remedy=remedy)
        if comma < 0:
            return found
        pos = comma + 1
