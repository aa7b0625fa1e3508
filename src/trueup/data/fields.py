"""One row's fields: each function returns the value, or raises the Fault that says why not."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, TypeVar

from trueup.data import strict_json
from trueup.data.problems import Fault, keys_of, nearest, show

T = TypeVar("T")
Row = Mapping[str, Any]
_ALWAYS_LISTS = (
    *("messages", "conversations", "completions", "responses", "instances", "history"),
    *("preference", "ranking", "ranks", "scores", "labels", "conversation_a", "conversation_b"),
)
_ALWAYS_NUMBERS = (
    *("helpfulness", "correctness", "coherence", "complexity", "verbosity", "score_0", "score_1", "choice"),
    *("overall_preference", "preference_strength"),
)
_LABELS = dict.fromkeys(("true", "1", "1.0", "yes"), True) | dict.fromkeys(("false", "0", "0.0", "no"), False)


def required(row: Row, key: str, inside: str = "") -> Any:
    """The value at `key`; `inside` is the path to the row. Raises Fault E203 (missing) or E206 (null)."""
    field = f"{inside}.{key}" if inside else key
    if key not in row:
        close = nearest(key, [name for name in row if isinstance(name, str)])
        remedy = f'add "{key}"' + ("" if inside else ", or name the format with --format")
        remedy = f'rename "{close}" to "{key}"' if close else remedy
        raise Fault("E203", "is missing", field=field, found=f"keys {keys_of(row)}", remedy=remedy)
    if row[key] is None:
        raise Fault("E206", "is null", field=field, remedy="write a value, or remove the row")
    return row[key]


def text(row: Row, key: str) -> str:
    """The string at `key`, which may be empty. Raises Fault E203, E205 or E206."""
    return as_text(required(row, key), key)


def as_text(value: Any, field: str) -> str:
    """The value, when it is a string. Raises Fault E205 otherwise."""
    if isinstance(value, str):
        return value
    remedy = "write a string"
    if isinstance(value, dict) and "text" in value and "[" not in field:
        remedy += f", or point at the inner one with --columns.{field} {field}.text"
    return typed(value, str, field, "a string", remedy)


def typed(value: Any, kind: type[T], field: str, name: str, remedy: str = "") -> T:
    """The value, when it is of a type, whose `name` has its article. Raises Fault E205 otherwise."""
    if not isinstance(value, kind):
        remedy = remedy or f"write {name}"
        raise Fault("E205", f"is not {name}", field=field, found=show(value), remedy=remedy)
    return value


def number(value: Any, field: str) -> float:
    """The value as a float. Raises Fault E205 where it is no number, E411 where it is not finite."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Fault("E205", "is not a number", field=field, found=show(value), remedy="write a number")
    if not abs(value) <= sys.float_info.max:
        found = show(value)[:40]
        raise Fault("E411", "is not a finite number", field=field, found=found, remedy="write a number")
    return float(value)


def filled(value: str, field: str, *, code: str = "E306") -> str:
    """The string, when it holds more than spaces. Raises Fault `code` otherwise."""
    if not value.strip():
        raise Fault(code, "is empty", field=field, found=show(value), remedy="write text, or remove the row")
    return value


def optional_text(row: Row, key: str, inside: str = "") -> str:
    """The string at `key`, "" where it is absent or null. Raises Fault E205 for another type."""
    return "" if row.get(key) is None else as_text(row[key], f"{inside}.{key}" if inside else key)


def listed(row: Row, key: str) -> list[Any]:
    """The list at `key`, not empty. Raises Fault E203, E205 to E207."""
    value = typed(required(row, key), list, key, "a list")
    if not value:
        raise Fault("E207", "is an empty list", field=key, remedy="fill the list, or remove the row")
    return value


def parse_cells(row: dict[str, Any]) -> dict[str, Any]:
    """A CSV row with the fields that are always lists or numbers read out of their JSON.

    Only these: a string that happens to look like a conversation stays a string in every other field, or
    text could give itself a role. Raises Fault E103 and its like, with the field's name.
    """
    for key in _ALWAYS_LISTS:
        cell = row.get(key)
        if isinstance(cell, str) and cell.lstrip()[:1] == "[":
            try:
                row[key] = strict_json.loads(cell.encode())
            except Fault as fault:
                fault.field, fault.offset = key, 0
                raise
    for key in _ALWAYS_NUMBERS:
        if isinstance(cell := row.get(key), str):
            with suppress(Fault):  # What it is then, the field's own check says.
                row[key] = strict_json.loads(cell.encode("utf-8", "surrogatepass"))
    return row


def label(row: Row, key: str) -> bool:
    """The yes or no at `key`: true, false, 1, 0 or their words. Raises Fault E203, E206 or E212."""
    return truth(required(row, key), key, "write true (good) or false (bad)")


def truth(value: Any, field: str, remedy: str = "write true (1) or false (0)") -> bool:
    """The value as a yes or no. Raises Fault E212 for what is neither, as 0.5."""
    word = str(value).strip().lower() if isinstance(value, str | int | float) else ""
    if word not in _LABELS:
        raise Fault("E212", "is not true or false", field=field, found=show(value), remedy=remedy)
    return _LABELS[word]
