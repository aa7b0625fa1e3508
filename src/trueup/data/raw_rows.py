"""Files as raw rows: bytes with their place, before anything is understood.

Text is read as bytes and split at b"\\n" and nowhere else, so U+2028 and its like inside a string never cut
a row in two. Every byte of the file belongs to exactly one raw row, blank lines included: joined in order
the rows are the file.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, cast, final

from trueup.data import csv_cells, strict_json
from trueup.data.problems import Fault, file_error, printable, show
from trueup.errors import EXIT_MISSING, TrueupError, counted

LINE_CAP = 32 * 2**20
"Bytes of one row that are read; a longer row is bad (E109)."
_HARD_CAP = 16 * LINE_CAP
_BLOCK = 2**20
"Bytes of a JSON array that are read at a time."
_BOM = b"\xef\xbb\xbf"
TEXT_SUFFIXES = (".jsonl", ".json", ".ndjson", ".csv", ".tsv")
_SEPARATOR_LINE = re.compile(rb"sep=([,;\t])\r?\n", re.IGNORECASE)
"What spreadsheets write above the header to name the delimiter."


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row as it lies in the file: its bytes, its first line (from 1) and its byte offset."""

    file: str
    line: int
    byte: int
    raw: bytes
    values: Any = None
    "Already decoded (tables and CSV); None means `decode` has to read the bytes."
    fault: Fault | None = None
    "Set when the place where the row was cut out already showed it to be bad."
    cells: str = ""
    "The delimiter where the values are CSV cells, all of them strings."

    @property
    def blank(self) -> bool:
        """Whether nothing but spaces stands here: no row."""
        return self.values is None and self.fault is None and not self.raw.removeprefix(_BOM).strip()


def decode(row: RawRow) -> dict[str, Any]:
    """The row's fields. Raises Fault E101 to E109 for bad bytes and E201 for a row that is no object."""
    if row.fault is not None:
        raise row.fault
    if row.values is not None:
        return row.values
    body, skipped = row.raw, 0
    if row.byte == 0 and body.startswith(_BOM):
        body, skipped = body[len(_BOM) :], len(_BOM)
    if len(body) > LINE_CAP:
        reason = f"a row of {len(body):,} bytes; the limit is {LINE_CAP:,}"
        raise Fault("E109", reason, remedy="split the row, or store the file as Parquet")
    try:
        value = strict_json.loads(body)
    except Fault as fault:
        fault.offset += skipped
        raise
    if not isinstance(value, dict):
        remedy = 'write each row as {"field": ...}'
        raise Fault("E201", "the row is not an object", found=show(value), remedy=remedy)
    return value


def text_rows(path: Path, name: str) -> Iterator[RawRow]:
    """The raw rows of a text file, by its suffix; `.gz` is unpacked on the way."""
    stem = path.name.lower().removesuffix(".gz")
    with opened(path, name) as file:
        head = file.read(256)
        file.seek(0)
        if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
            remedy = "convert it: `iconv -f utf-16 -t utf-8 OLD > NEW`"
            raise file_error("E101", "the file is UTF-16, not UTF-8", name, remedy)
        if stem.endswith((".csv", ".tsv")):
            yield from _csv_rows(file, name, "\t" if stem.endswith(".tsv") else ",")
        elif stem.endswith(".json"):
            yield from _json_rows(file, name)
        elif re.match(rb"\s*\[\s*\{", head.removeprefix(_BOM)):
            reason = "the file is one JSON array, not one object a line"
            raise file_error("E118", reason, f"{name}:1", "end its name in .json")
        else:
            yield from _lines(file, name)


@contextmanager
def opened(path: Path, name: str) -> Iterator[IO[bytes]]:
    """The file's bytes, `.gz` unpacked. Inside, what keeps them from being read is E110, damaged, or E102."""
    packed = path.name.lower().endswith(".gz")
    try:
        with cast(IO[bytes], gzip.open(path, "rb")) if packed else path.open("rb") as file:
            yield file
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        reason = f"the compressed file is damaged or cut off ({printable(str(error))})"
        raise file_error("E110", reason, name, "copy or download it again; nothing was read") from None
    except OSError as error:
        raise unreadable(name, error) from None


def unreadable(name: str, error: OSError) -> TrueupError:
    """The error for a path that the system does not let us read."""
    reason = f"cannot be read: {printable(error.strerror or type(error).__name__)}"
    return file_error("E102", reason, name, "check the path and its permissions", exit_code=EXIT_MISSING)


def _lines(file: IO[bytes], name: str) -> Iterator[RawRow]:
    byte = 0
    for line, raw in enumerate(iter(lambda: file.readline(_HARD_CAP), b""), 1):
        if len(raw) == _HARD_CAP:
            reason = f"line {line} is longer than {_HARD_CAP:,} bytes"
            raise file_error(
                "E109", reason, f"{name}:{line}", "the file is probably not text; nothing was read"
            )
        yield RawRow(name, line, byte, raw)
        byte += len(raw)


# ---------------------------------------------------------------------------------------- JSON arrays

_TOKEN = re.compile(rb'(?:[^"\[\]{},]++|"(?:[^"\\]++|\\.)*+")*+(["\[\]{},])?', re.DOTALL)
"""What stands before the next bracket or comma, strings whole, and that sign; a quote is a string's that does
not close in the bytes at hand, and nothing is their end."""
_CLOSES = {b"]": b"[", b"}": b"{"}


def _json_rows(file: IO[bytes], name: str) -> Iterator[RawRow]:
    """A `.json` file holds one array of rows, or rows one a line, or objects one after another."""
    head = body = b""
    while body[:1] != b"[" and b"\n" not in body and len(head) <= LINE_CAP:
        if not (block := file.read(_BLOCK)):
            break
        head += block
        body = head.removeprefix(_BOM).lstrip()
    file.seek(0)
    if body[:1] == b"[":
        yield from _elements(_Text(file, name, head.index(b"[") + 1), in_array=True)
    elif body[:1] == b"{" and not body.split(b"\n", 1)[0].rstrip().endswith(b"}"):
        yield from _elements(_Text(file, name, len(_BOM) * head.startswith(_BOM)), in_array=False)
    else:
        yield from _lines(file, name)


def _elements(text: _Text, *, in_array: bool) -> Iterator[RawRow]:
    """The elements of a JSON array, or the objects of a file that simply follow each other."""
    open_ = [b"["] if in_array else []
    for token, end in text.tokens():
        if token in (b"[", b"{"):
            open_.append(token)
        elif token == b"," and in_array and len(open_) == 1:
            yield text.row(end - 1, end)
        elif token in _CLOSES:
            if not open_ or open_.pop() != _CLOSES[token]:
                raise text.broken("the brackets do not match")
            if not open_:
                yield text.row(end - in_array, end)
                if in_array:
                    break
    if open_:
        raise text.broken("the array is never closed" if in_array else "an object is never closed")
    if text.rest().strip():
        row = text.row(text.end, text.end)
        found = show(row.raw[:40].decode("utf-8", "replace"))
        remedy = "remove it, or name the file .jsonl if it holds one object a line"
        yield replace(row, fault=Fault("E118", "text after the end", found=found, remedy=remedy))


@final
class _Text:
    """A file's bytes from the row at hand to a block or two ahead of it; counts lines as it goes forward."""

    def __init__(self, file: IO[bytes], name: str, first: int) -> None:
        self._file, self._name = file, name
        self._data, self._begin = b"", 0
        self._first, self._line, self._counted = first, 1, 0

    @property
    def end(self) -> int:
        """Where the bytes at hand end, as an offset in the file, like every place here."""
        return self._begin + len(self._data)

    def tokens(self) -> Iterator[tuple[bytes, int]]:
        """The brackets and commas outside strings, each with the place behind it."""
        at = self._first
        while self._more():
            for match in _TOKEN.finditer(self._data, at - self._begin):
                token = match[1]
                if token is None or token == b'"':
                    break
                at = self._begin + match.end()
                yield token, at

    def row(self, end: int, following: int) -> RawRow:
        """The row that ends at `end`; the next one begins at `following`."""
        raw = self._data[self._first - self._begin : end - self._begin]
        start = self._first + len(raw) - len(raw.lstrip())
        self._count(start)
        self._first = following
        return RawRow(self._name, self._line, start, raw.strip())

    def rest(self) -> bytes:
        """What follows the last row, to the end of the file."""
        while self._more():
            pass
        return self._data[self._first - self._begin :]

    def broken(self, reason: str) -> TrueupError:
        line = self._line_at_hand()
        reason = f"not a JSON array of rows: {reason} after line {line}"
        remedy = "mend that row, or export the file as .jsonl (one object a line)"
        reason += "; the rows behind it cannot be told apart"
        return file_error("E118", reason, f"{self._name}:{line}", remedy)

    def _line_at_hand(self) -> int:
        return self.row(min(self._first + 200, self.end), self._first).line

    def _more(self) -> bool:
        """Whether there was another block; what lies before the row at hand is let go."""
        held = self.end - self._first
        if held > _HARD_CAP:
            remedy = "store the rows as .jsonl (one object a line) or as Parquet"
            where = f"{self._name}:{self._line_at_hand()}"
            raise file_error("E109", f"a row of more than {_HARD_CAP:,} bytes", where, remedy)
        # As much again as is held: a row of many blocks is then looked through twice, not once a block.
        block = self._file.read(min(max(_BLOCK, held), _HARD_CAP + 1))
        if block:
            gone = min(max(self._first - self._begin, 0), len(self._data))
            self._count(self._begin + gone)
            self._data, self._begin = self._data[gone:] + block, self._begin + gone
        return bool(block)

    def _count(self, to: int) -> None:
        self._line += self._data.count(b"\n", self._counted - self._begin, to - self._begin)
        self._counted = to


# ------------------------------------------------------------------------------------------------ CSV


def _csv_rows(file: IO[bytes], name: str, usual: str) -> Iterator[RawRow]:
    """The records of a CSV file behind its header; a record may run over several lines inside quotes."""
    line, byte, delimiter = _csv_start(file, usual)
    header: list[str] | None = None
    lines = (row.raw for row in _lines(file, name))
    for raw, num_lines, closed in csv_cells.join_lines(lines, delimiter):
        row = RawRow(name, line, byte, raw)
        line, byte = line + num_lines, byte + len(raw)
        if row.blank:
            yield row
            continue
        try:
            cells = _cells(raw, closed, delimiter)
            if header is None:
                header = _header(cells)
            else:
                yield replace(row, values=_named(cells, header, delimiter), cells=delimiter)
        except Fault as fault:
            if header is None:
                raise file_error("E115", f"the header: {fault.reason}", f"{name}:1", fault.remedy) from None
            yield replace(row, fault=fault)


def _csv_start(file: IO[bytes], usual: str) -> tuple[int, int, str]:
    """The line and the byte where the header stands, and its delimiter; the file is left there."""
    head = file.read(2**16)
    byte = len(_BOM) if head.startswith(_BOM) else 0
    named = _SEPARATOR_LINE.match(head, byte)
    start = named.end() if named else byte
    header = head[start:].lstrip(b"\r\n").split(b"\n", 1)[0].decode("utf-8", "replace")
    file.seek(start)
    delimiter = named[1].decode() if named else csv_cells.delimiter_of(header, usual)
    return 1 + bool(named), start, delimiter


def _cells(raw: bytes, closed: bool, delimiter: str) -> list[str]:
    if not closed:
        raise Fault("E115", "a quote is opened and never closed", remedy='double it: a quote in a cell is ""')
    found = csv_cells.cells(strict_json.decode_utf8(raw), delimiter)
    strict_json.check_strings(found)
    return found


def _header(cells: list[str]) -> list[str]:
    header = [cell.strip() for cell in cells]
    if len(set(header)) != len(header) or not all(header):
        reason = f"it names a column twice or not at all (found: {show(','.join(header))})"
        raise Fault("E115", reason, remedy="the first line of a CSV file must name every column once")
    return header


def _named(cells: list[str], header: list[str], delimiter: str) -> dict[str, str]:
    if len(cells) != len(header):
        reason = f"{counted(len(cells), 'cell')}, but the header names {counted(len(header), 'column')}"
        held = csv_cells.DELIMITERS[delimiter]
        remedy = f"put double quotes around cells that hold {held} or line breaks"
        raise Fault("E115", reason, remedy=remedy)
    return dict(zip(header, cells, strict=True))
