"""Checks shapes and types at every call of the modules that conftest names, while tests run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from beartype import beartype
from beartype.roar import BeartypeDecorHintException

F = TypeVar("F", bound=Callable[..., object])


def check(function: F) -> F:
    """The function with its annotations enforced; as it is where a hint (a protocol) has no runtime check."""
    try:
        return beartype(function)
    except BeartypeDecorHintException:
        return function
