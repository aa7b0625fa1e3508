"""Texts that are put to models and lie in YAML files: found by name, and their gaps filled in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from trueup.errors import TrueupError
from trueup.settings import config as configuration

_T = TypeVar("_T")


def read_form(cls: type[_T], name: str, folder: Path, what: str) -> _T:
    """The `cls` in a YAML file, or the one of that name in the package's folder; `what` it is in errors.

    Raises E801 for a missing file, E7xx for one that says something else.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else folder / f"{name}.yaml"
    if not path.exists():
        there = ", ".join(sorted(found.stem for found in folder.glob("*.yaml")))
        raise TrueupError("E801", f"no such {what}", where=name, remedy=f"give FILE.yaml, or one of {there}")
    return configuration.build(cls, configuration.read_yaml(path), where=str(path))


def check_pattern(name: str, pattern: str, *, groups: int = 0) -> None:
    """Nothing; raises ValueError, for a dataclass to be built, unless this is a pattern of so many groups."""
    try:
        found = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"`{name}` is no regular expression: {error}") from None
    if found < groups:
        raise ValueError(f"`{name}` has no group")


def fill(text: str, parts: Mapping[str, str]) -> str:
    """The text with its gaps `{name}` filled in; what is filled in is not looked at for gaps again."""
    return re.sub(r"\{(\w+)\}", lambda gap: parts.get(gap[1], gap[0]), text)
