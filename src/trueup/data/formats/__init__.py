"""The file formats: each is a function that `reads` a row, found in its module here by itself."""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module

from trueup.data.layout import Format


@cache
def all_formats() -> dict[str, Format]:
    """Every format by its name, in the order of the names."""
    modules = (import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__))
    found = (item for module in modules for item in vars(module).values() if isinstance(item, Format))
    return {item.name: item for item in sorted(found, key=lambda item: item.name)}
