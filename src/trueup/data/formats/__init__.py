"""The file formats: every module here names its own in `FORMATS`; a new file is found by itself."""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module

from trueup.data.layout import Format


@cache
def all_formats() -> dict[str, Format]:
    """Every format by its name, in the order of the names."""
    found: dict[str, Format] = {}
    for info in pkgutil.iter_modules(__path__):
        module = import_module(f"{__name__}.{info.name}")
        found.update({item.name: item for item in module.FORMATS})
    return dict(sorted(found.items()))
