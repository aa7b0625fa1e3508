"""Whose mistake it is: what a person's function raised or gave, with its file, its line and the row."""

from __future__ import annotations

import inspect
import math
import re
import reprlib
import tokenize
import traceback
from collections.abc import Callable
from decimal import Decimal
from numbers import Real
from pathlib import Path
from typing import Any

from trueup.errors import TrueupError

_LAST = 3
"Calls of a traceback that are shown."


def place_of(function: Callable[..., Any]) -> str:
    """`FILE:LINE` where a function was written; "" where Python does not know."""
    try:
        inner = written(function)
        path = inspect.getsourcefile(inner)
        return f"{_file(path)}:{inspect.getsourcelines(inner)[1]}" if path else ""
    except (OSError, TypeError, SyntaxError, tokenize.TokenError):
        return ""


def written(function: Callable[..., Any]) -> Any:
    """The function or class whose source a callable runs: what a partial fixes, what a wrapper wraps."""
    inner = inspect.unwrap(getattr(function, "func", function))
    return inner if inspect.isroutine(inner) or inspect.isclass(inner) else type(inner)


def raised(error: BaseException, function: Callable[..., Any], *, name: str, row: str) -> TrueupError:
    """E799: what the function raised, where, on which row, and the last lines of the traceback."""
    ours = str(Path(__file__).parent)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(ours)]
    lines = [
        f"  {_file(f.filename)}, line {f.lineno}, in {f.name}" + (f"\n    {f.line}" if f.line else "")
        for f in frames[-_LAST:]
    ]
    what = _said(error)
    did = f"ended the program ({what})" if isinstance(error, SystemExit) else f"raised {what}"
    code = getattr(written(function), "__code__", None)
    own = [f for f in frames if code is not None and f.filename == code.co_filename]
    # Where in the person's own file, though a library that it called may have raised.
    blamed = (own or frames)[-1:]
    at = "".join(f"{_file(f.filename)}:{f.lineno}, " for f in blamed)
    return TrueupError(
        "E799",
        f"the judge's function {did}",
        where=f"judge {name}, {at}{row}",
        remedy="\n".join(["repair the function; where it was:", *lines]) if lines else "repair the function",
    )


def number_of(value: Any) -> float | None:
    """The finite number that a value is, Decimal, NumPy's and torch's scalars included; else None.

    Text is no number and a truth value is none.
    """
    if not isinstance(value, Real) and callable(getattr(value, "item", None)):
        try:
            value = value.item()
        except (ValueError, RuntimeError, TypeError):  # more than one number
            return None
    if isinstance(value, bool) or not isinstance(value, Real | Decimal):
        return None
    try:
        number = float(value)
    except (OverflowError, ValueError):  # too large; a Decimal that signals
        return None
    return number if math.isfinite(number) else None


def shown(value: object) -> str:
    """A value, shortened."""
    try:
        return reprlib.repr(value)
    except ValueError:  # an integer with more digits than Python writes
        return f"a {type(value).__name__} of {getattr(value, 'bit_length', int)()} bits"


def _said(error: BaseException) -> str:
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def _file(path: str) -> str:
    """The path; a notebook's temporary file is its cell."""
    return "the notebook's cell" if re.search(r"ipykernel_\d+|<ipython-input", path) else path
