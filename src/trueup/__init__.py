"""trueup: align language models by any method, and know what it cost.

Every command is a function of its name, on paths and on objects: `trueup.fit`, `trueup.evaluate` ...
`__all__` is the public surface, with a page of its own (docs/python.md), and everything else is internal.
Importing this package loads no torch; the first use of a name loads what it needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trueup.api.models import Model, load
    from trueup.api.results import Report, Trained
    from trueup.api.rows import Groups, check, convert, read
    from trueup.api.training import fit

__version__ = "0.1.0"
_HOME = {
    "api.models": ("Model", "load"),
    "api.results": ("Report", "Trained"),
    "api.rows": ("Groups", "check", "convert", "read"),
    "api.training": ("fit",),
}
"Where each name lives."
__all__ = ["Groups", "Model", "Report", "Trained", "check", "convert", "fit", "load", "read"]


def __getattr__(name: str) -> Any:
    home = next((module for module, names in _HOME.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module 'trueup' has no attribute {name!r}")
    return getattr(import_module(f"trueup.{home}"), name)
