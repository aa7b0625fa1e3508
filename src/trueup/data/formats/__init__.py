"""The file formats: what a row looks like, and how it becomes groups.

Each is a function that `reads` a row, in one of the modules here; a new one is found by itself.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module

from trueup.data.fields import Row
from trueup.engine.groups import Group

CONTENT = frozenset(
    {"prompt", "completion", "completions", "responses", "chosen", "rejected", "text", "messages"}
    | {"conversations", "instruction", "output", "instances"}
)
"Keys that hold what is learned from: a format is only believed when it explains all of them."
Parse = Callable[[Row], Sequence[Group]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A file format: the keys its rows need and may have, and the function that reads one row."""

    name: str
    needs: tuple[frozenset[str], ...]
    "Key sets; a row that has all keys of one of them may be of this format."
    keys: frozenset[str]
    "All keys that the format understands; a row's others go to `Group.meta`."
    beside: frozenset[str]
    "Keys of other formats that may stand beside these and are only kept in `Group.meta`."
    parse: Parse
    "The row's groups; raises Fault."
    fits: Callable[[Row], bool]
    "A look at the values, for formats whose keys are the same."


def reads(
    *needs: str, may: str = "", beside: str = "", fits: Callable[[Row], bool] = lambda row: True
) -> Callable[[Parse], Format]:
    """A decorator that makes a format of the function that reads its rows, under the function's name.

    Each of `needs`, and `may` and `beside`, are keys with commas between them.
    """

    def made(parse: Parse) -> Format:
        name, sets = parse.__name__.replace("_", "-"), tuple(map(_keys, needs))
        known = _keys(may).union(*sets)
        return Format(name=name, needs=sets, keys=known, beside=_keys(beside), parse=parse, fits=fits)

    return made


def _keys(listed: str) -> frozenset[str]:
    return frozenset(listed.split(", ")) if listed else frozenset()


@cache
def all_formats() -> dict[str, Format]:
    """Every format by its name, in the order of the names."""
    modules = (import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__))
    found = (item for module in modules for item in vars(module).values() if isinstance(item, Format))
    return {item.name: item for item in sorted(found, key=lambda item: item.name)}
