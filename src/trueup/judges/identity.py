"""What a person's function is: its name, where it was written, and a digest of what it does."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import inspect
import re
import sys
import tokenize
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from trueup.errors import TrueupError
from trueup.judges.blame import place_of, written
from trueup.settings.held import FUNCTION, not_held

_CONSTANT = (str, bytes, int, float, complex, tuple, frozenset, type(None))
"Closed-over values of these kinds are part of a function; others may be where it keeps what it saw."


@dataclass(frozen=True, kw_only=True)
class Identity:
    """A function as a run's folder names it."""

    module: str
    name: str
    place: str
    "`FILE:LINE`, where Python knows it."
    source: str
    "The text it was written as; empty where Python does not know it."
    digest: str
    "SHA-256 over the source and what was fixed around it: defaults, arguments, closed-over values."
    importable: bool
    "Whether another program finds it by these names: it is no notebook's, script's or inner function."

    @property
    def reference(self) -> str:
        """How settings name it: `python:MODULE:NAME`."""
        return f"{FUNCTION}{self.module}:{self.name}"


def identity(function: Callable[..., Any]) -> Identity:
    """Who a callable is. What it calls in turn, and what a changing object holds, is not looked at."""
    inner = written(function)
    source = _source(inner)
    code = getattr(inner, "__code__", None)
    compiled = "" if source or code is None else f"{code.co_code.hex()} {code.co_names} {code.co_consts}"
    parts = (source, _plain(compiled), *_fixed(function, inner))
    module = str(getattr(inner, "__module__", "") or "")
    name = str(getattr(inner, "__qualname__", type(function).__qualname__))
    return Identity(
        module=module,
        name=name.replace(":", " "),
        place=place_of(function),
        source=source,
        importable=module != "__main__" and getattr(sys.modules.get(module), name, None) is function,
        digest=hashlib.sha256("\x1f".join(parts).encode()).hexdigest(),
    )


def _source(inner: Any) -> str:
    """The text that a function was written as; "" where Python does not know it, or takes another for it."""
    try:
        found = inspect.getsource(inner)
    except (OSError, TypeError, SyntaxError, tokenize.TokenError):
        return ""
    name = str(getattr(inner, "__name__", "")).strip("<>")
    return found if name in found else ""


def _fixed(function: Any, inner: Any) -> Iterator[str]:
    """What decides a callable's result beside its source, as text: what cannot change from call to call."""
    if hasattr(function, "func"):  # a partial
        yield _plain((function.args, sorted(function.keywords.items())))
    owner = getattr(function, "__self__", function)
    if dataclasses.is_dataclass(owner) and vars(type(owner))["__dataclass_params__"].frozen:
        yield _plain(owner)
    if inspect.isfunction(inner):
        yield _plain((inner.__defaults__, inner.__kwdefaults__))
        closed = inspect.getclosurevars(inner).nonlocals
        yield _plain(sorted((key, value) for key, value in closed.items() if isinstance(value, _CONSTANT)))


def _plain(value: object) -> str:
    """The value as text, without the addresses at which objects happen to lie."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def imported(reference: str) -> Callable[..., Any]:
    """The function that `python:MODULE:NAME` names, of a module that can be imported, else E753."""
    _, _, rest = reference.partition(":")
    module, _, name = rest.partition(":")
    remedy = "give the function again: trueup.fit(..., judge=...)"
    if module in ("", "__main__") or not name.isidentifier():
        raise not_held(reference, f"judge {reference}", remedy)
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise TrueupError("E753", str(error), where=f"judge {reference}", remedy=remedy) from None
    if not callable(found):
        raise TrueupError("E753", "it is no function", where=f"judge {reference}", remedy=remedy)
    return found
