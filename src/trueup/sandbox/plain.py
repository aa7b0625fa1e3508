"""Plain data as one line of JSON: what may cross the border of a sealed process.

None, booleans, numbers, text, bytes and the built-in containers of these. What comes out of `decode` has
exactly these types, so no object of the other side's making, with an `__eq__` of its own, can arrive.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

_TAGGED = {list: "l", tuple: "t", set: "s", frozenset: "z"}
_READ: dict[str, Callable[[str], Any]] = {
    "i": lambda text: int(text, 16),
    "f": float.fromhex,
    "b": bytes.fromhex,
}
_CONTAINERS = {"l": list, "t": tuple, "s": set, "z": frozenset}


class NotPlainError(Exception):
    """A value that is no plain data, or a line that is no value."""


def encode(value: Any) -> bytes:
    """One line of JSON, without its line end. Subclasses (a Counter, a named tuple) go as their base type.

    Raises NotPlainError for anything else, and for what is nested too deeply.
    """
    try:
        return json.dumps(_wrap(value)).encode("ascii")
    except RecursionError:
        raise NotPlainError("nested too deeply") from None


def decode(line: bytes) -> Any:
    """The value of a line, made of exact built-in types. Raises NotPlainError for a line that is none."""
    try:
        return _unwrap(json.loads(line))
    except (ValueError, TypeError, KeyError, RecursionError, MemoryError, OverflowError) as error:
        raise NotPlainError(f"no plain data: {type(error).__name__}") from None


def _wrap(value: Any) -> Any:
    if value is None or value is True or value is False:
        return value
    # Hexadecimal, because reading a decimal number takes time quadratic in its digits; floats to the bit.
    if isinstance(value, int):
        return {"i": int.__format__(value, "x")}
    if isinstance(value, float):
        return {"f": float.hex(value)}
    if isinstance(value, complex):
        return {"c": [float.hex(value.real), float.hex(value.imag)]}
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bytes | bytearray):
        return {"b": bytes(value).hex()}
    if isinstance(value, dict):
        return {"d": [[_wrap(k), _wrap(v)] for k, v in dict.items(value)]}
    for kind, tag in _TAGGED.items():
        if isinstance(value, kind):
            return {tag: [_wrap(v) for v in kind.__iter__(value)]}
    raise NotPlainError(f"{type(value).__name__} is no plain data")


def _unwrap(value: Any) -> Any:
    if value is None or isinstance(value, bool | str):
        return value
    if not isinstance(value, dict) or len(value) != 1:
        raise ValueError
    ((tag, inner),) = value.items()
    if not isinstance(inner, list):
        return _READ[tag](inner)
    if tag == "d":
        return {_unwrap(k): _unwrap(v) for k, v in inner}
    if tag == "c":
        real, imaginary = inner
        return complex(float.fromhex(real), float.fromhex(imaginary))
    return _CONTAINERS[tag](_unwrap(v) for v in inner)
