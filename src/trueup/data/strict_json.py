"""Strict JSON: what `json` lets through (NaN, 1e999, repeated keys, lone surrogates) is refused here."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from trueup.data.problems import Fault, show

MAX_DEPTH = 64
"Objects and lists inside each other; real rows stay below 10."
_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def loads(raw: bytes) -> Any:
    """The JSON value of one row. Raises Fault E101, E103 to E108 with the offset of the offence."""
    text = decode_utf8(raw)
    if b"\x00" in raw:
        remedy = "the file is binary, UTF-16 or damaged: export it again as UTF-8 text"
        raise Fault("E107", "a NUL byte", remedy=remedy, offset=raw.index(b"\x00"))
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise _syntax(text, error) from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        if "digits" not in str(error):
            raise
        raise Fault("E105", "an integer of more than 4,300 digits", remedy="write it as a string") from None
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH:
        _check_depth(value)
    if _ESCAPED_SURROGATE.search(raw) or b"\\u0000" in raw:
        check_strings(value)
    return value


def check_strings(value: Any) -> None:
    """None. Raises Fault E107 or E108 for a string with a NUL or with half a surrogate pair."""
    for path, text in _strings(value, ""):
        if "\x00" in text:
            remedy = "remove \\u0000 from the text"
            raise Fault("E107", "a NUL character", field=path, found=show(text), remedy=remedy)
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            reason, found = "half of a surrogate pair", show(text)
            remedy = "the text was cut inside an emoji or other rare character: export it again"
            raise Fault("E108", reason, field=path, found=found, remedy=remedy) from None


def decode_utf8(raw: bytes) -> str:
    """The bytes as text. Raises Fault E101 with the offset of the first byte that is not UTF-8."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        found = raw[error.start :][:4].hex(" ")
        remedy = "convert the file, for example `iconv -f latin1 -t utf-8 OLD > NEW`"
        raise Fault("E101", "not UTF-8", found=found, remedy=remedy, offset=error.start) from None


def _syntax(text: str, error: json.JSONDecodeError) -> Fault:
    """The fault in our words: those of `json` change with the version of Python."""
    pos = error.pos
    before = text[:pos].rstrip()
    if text[pos : pos + 1] in "}]" and before.endswith(","):
        pos = len(before) - 1
    rest = text[pos:].strip()
    pos = pos if rest else len(text.rstrip())
    reason, remedy = "not JSON", "write one JSON object a line, with double quotes"
    if not rest:
        reason, remedy = "the row is cut off", "a row must end on the line where it begins"
    elif rest[0] == "'":
        reason, remedy = "single quotes are not JSON", "write the file with json.dumps, not str()"
    elif rest[0] == "," and rest[1:].lstrip()[:1] in ("}", "]"):
        reason, remedy = "a comma before the end", "remove the comma"
    elif error.msg.startswith("Extra data"):
        reason, remedy = "more than one value on the line", "put each object on its own line"
    elif error.msg.startswith("Invalid control character"):
        reason, remedy = "a line break or tab inside a string", "write it as \\n or \\t"
    elif error.msg.startswith("Unterminated string"):
        reason, remedy = "a string that never ends", "close it with a double quote, on the same line"
    elif error.msg.startswith("Invalid \\"):
        reason, remedy = "an escape that JSON does not know", "write a backslash as \\\\"
    found = show(rest[:20]) if rest else ""
    return Fault("E103", reason, found=found, remedy=remedy, offset=len(text[:pos].encode("utf-8")))


def _too_deep() -> Fault:
    reason = f"lists and objects inside each other more than {MAX_DEPTH} deep"
    return Fault("E106", reason, remedy="flatten the row")


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        times = Counter(key for key, _ in pairs)
        twice = next(key for key, _ in pairs if times[key] > 1)
        remedy = "keep one of them; JSON does not say which one counts"
        raise Fault("E104", "the key appears twice in one object", field=twice, remedy=remedy)
    return made


def _refuse_constant(name: str) -> float:
    raise Fault("E105", "not a finite number", found=name, remedy="leave the field out, or write null")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        found, remedy = show(text)[:40], "write a smaller number"
        raise Fault("E105", "a number too large for a float", found=found, remedy=remedy)
    return value


_DECODER = json.JSONDecoder(
    object_pairs_hook=_no_repeats, parse_constant=_refuse_constant, parse_float=_finite
)


def _check_depth(value: Any, left: int = MAX_DEPTH) -> None:
    if isinstance(value, dict | list):
        if not left:
            raise _too_deep()
        for item in value.values() if isinstance(value, dict) else value:
            _check_depth(item, left - 1)


def _strings(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Every string in the value with the path that leads to it, keys included."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield path or "a key", key
            yield from _strings(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _strings(item, f"{path}[{index}]")
