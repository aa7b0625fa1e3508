"""CSV records out of physical lines: quotes as in RFC 4180, a stray quote costs one row, not the file.

What stands between cells is a comma, a semicolon (spreadsheets of most of Europe) or a tab; the header tells.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from functools import cache
from typing import Literal, NamedTuple

from trueup.data.problems import Fault, show

_RECORD_CAP = 2**20
"How many bytes an open quote is followed before the line that opened it is called bad."
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}
"What may stand between cells, with its name."
_REST_OF_QUOTED = re.compile(rb'(?:[^"]|"")*+"')


class _Patterns(NamedTuple):
    closed: re.Pattern[bytes]
    cell: re.Pattern[str]


@cache
def _patterns(delimiter: str) -> _Patterns:
    cell = r'(?:"(?:[^"]|"")*+"|(?!"))' + f"[^{delimiter}]*+"
    closed = f"{cell}(?:{delimiter}{cell})*+".encode()
    parted = r'(?:"((?:[^"]|"")*+)"|(?!"))' + f"([^{delimiter}]*+){delimiter}"
    return _Patterns(re.compile(closed), re.compile(parted))


def delimiter_of(header: str, usual: str = ",") -> str:
    """What stands between a header's cells: the delimiter that cuts it most often outside quotes.

    `usual` where none cuts it, or where it cuts as often as another.
    """
    bare = re.sub(r'"(?:[^"]|"")*"', "", header)
    return max((usual, *DELIMITERS), key=bare.count)


def join_lines(lines: Iterator[bytes], delimiter: str) -> Iterator[tuple[bytes, int, bool]]:
    """Each record's bytes, the number of lines it takes, and whether its quotes close."""
    waiting: deque[bytes] = deque()

    def take() -> bytes | None:
        return waiting.popleft() if waiting else next(lines, None)

    while (first := take()) is not None:
        taken, size, state = [first], len(first), _state(first, delimiter, inside=False)
        while state == "open" and size <= _RECORD_CAP and (line := take()) is not None:
            taken.append(line)
            size += len(line)
            state = _state(line, delimiter, inside=True)
        if state == "closed":
            yield b"".join(taken), len(taken), True
        else:
            waiting.extendleft(reversed(taken[1:]))
            yield first, 1, False


def _state(raw: bytes, delimiter: str, *, inside: bool) -> Literal["open", "closed", "broken"]:
    """Whether the line ends in an open quote; broken when text follows the quote it came in with."""
    start = 0
    if inside:
        close = _REST_OF_QUOTED.match(raw)
        if close is None:
            return "open"
        start = close.end()
        if raw[start : start + 1] not in (delimiter.encode(), b"\r", b"\n", b""):
            return "broken"
    return "closed" if _patterns(delimiter).closed.fullmatch(raw, start) else "open"


def cells(record: str, delimiter: str) -> list[str]:
    """The cells of one record. Raises Fault E115 for text behind a closing quote."""
    found: list[str] = []
    whole = record.removesuffix("\n").removesuffix("\r") + delimiter
    for match in _patterns(delimiter).cell.finditer(whole):
        quoted, rest = match.groups()
        if quoted is not None and rest:
            remedy = 'double it: a quote in a cell is ""'
            raise Fault("E115", "text behind a closing quote", found=show(rest), remedy=remedy)
        found.append(rest if quoted is None else quoted.replace('""', '"'))
    return found
