"""trueup: align language models by any method, and know what it cost.

`trueup.load`, `trueup.fit` and `trueup.evaluate` are the library in three verbs; everything else is in the
modules they are made of. Importing this package loads no torch; the first use of a verb does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trueup.api import evaluate, fit, load

__version__ = "0.1.0"
__all__ = ["evaluate", "fit", "load"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from trueup import api

        return getattr(api, name)
    raise AttributeError(f"module 'trueup' has no attribute {name!r}")
