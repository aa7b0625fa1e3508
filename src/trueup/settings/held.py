"""Objects of a Python session, by the references that stand for them in settings.

Settings are plain data, and a model in memory or a function of a notebook is not. So a setting holds a
reference, `object:NAME` or `python:MODULE:NAME`, and `holding` says what it stands for while one call of the
library lasts. Written settings stay readable; away from the session they say what is missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

from trueup.errors import TrueupError

OBJECT, FUNCTION = "object:", "python:"
_HELD: ContextVar[Mapping[str, Any]] = ContextVar("held", default=MappingProxyType({}))


@contextmanager
def holding(objects: Mapping[str, Any]) -> Iterator[None]:
    """Inside, each reference stands for its object."""
    token = _HELD.set({**_HELD.get(), **objects})
    try:
        yield
    finally:
        _HELD.reset(token)


def held(reference: str) -> Any:
    """The object that a reference stands for, None where nothing holds it."""
    return _HELD.get().get(reference)


def not_held(reference: str, where: str, remedy: str) -> TrueupError:
    """E753: a reference to an object of another session."""
    _, _, name = reference.partition(":")
    return TrueupError(
        "E753", f"{name} was an object of a Python session, and is not here", where=where, remedy=remedy
    )
