"""Problem: one bad row, said so that a person can find it and mend it."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import KW_ONLY, asdict, dataclass
from difflib import get_close_matches
from typing import Any, final

from trueup.errors import TrueupError, printable

_FOUND_CAP = 80


@final
@dataclass(eq=False)
class Fault(Exception):
    """Why one row cannot be read. The reader adds file and line and makes it a `Problem`."""

    code: str
    reason: str
    _: KW_ONLY
    field: str = ""
    found: str = ""
    remedy: str
    offset: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One bad row: `code file:line:byte field — reason (found: ...) — remedy`.

    `line` counts from 1; for Parquet and Arrow it is the row. `byte` is the offset in the file (after
    decompression) of the row, or of the very character where the bytes themselves are wrong; -1 in tables.
    """

    code: str
    file: str
    line: int
    byte: int
    field: str
    reason: str
    found: str
    remedy: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" + (f":{self.byte}" if self.byte >= 0 else "")
        head = " ".join(part for part in (self.code, where, self.field) if part)
        reason = self.reason + (f" (found: {self.found})" if self.found else "")
        return printable(f"{head} — {reason} — {self.remedy}")

    def to_json(self) -> dict[str, Any]:
        """The same parts as a dictionary."""
        return asdict(self)


def problem_of(fault: Fault, *, file: str, line: int, byte: int) -> Problem:
    """The fault with its place: what a report shows."""
    said = {name: getattr(fault, name) for name in ("code", "field", "reason", "found", "remedy")}
    return Problem(file=file, line=line, byte=byte if byte < 0 else byte + fault.offset, **said)


def file_error(code: str, reason: str, where: str, remedy: str, exit_code: int | None = None) -> TrueupError:
    """The error for a whole file or folder; its name is made safe to print."""
    return TrueupError(code, reason, where=printable(where), remedy=remedy, exit_code=exit_code)


def show(value: object) -> str:
    """What was found, in at most 80 characters, safe to print on a terminal."""
    if isinstance(value, str):
        text = json.dumps(value[: _FOUND_CAP + 1], ensure_ascii=False)
    elif isinstance(value, Mapping):
        text = "an object with keys " + keys_of(value)
    elif isinstance(value, list):
        text = f"a list of {len(value)}"
    elif value is None or isinstance(value, bool):
        text = json.dumps(value)
    elif isinstance(value, int) and value.bit_length() > 64:
        text = f"an integer of {value.bit_length()} bits"
    elif isinstance(value, int | float):
        text = f"{value:.12g}"
    else:
        text = type(value).__name__
    text = printable(text)
    return text if len(text) <= _FOUND_CAP else text[: _FOUND_CAP - 1] + "…"


def keys_of(row: Mapping[str, Any]) -> str:
    """The row's keys in their order, shortened to fit a message."""
    text = printable(", ".join(str(key) for key in list(row)[:12])) or "none"
    more = len(row) > 12 or len(text) > 64
    return text[:64] + (" …" if more else "")


def nearest(word: str, known: Collection[str], *, cutoff: float = 0.75) -> str:
    """The known word that is most like `word`, or "" when none is."""
    matches = get_close_matches(word.lower(), list(known), n=1, cutoff=cutoff)
    return matches[0] if matches and matches[0] != word else ""
