"""References to stages inside settings: where they stand, and the settings with each replaced by a path."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

STAGE = re.compile(r"(?:^|(?<=[?&])|(?<=^lm:))(\w+=)?stage:([A-Za-z0-9_-]+)(/[^?&#]*)?(?=$|[?&#])")
"Alone, after `lm:`, before options (`stage:NAME?a=1`), or among them (`rule.yaml?a=stage:NAME`)."
KEY = re.compile(r"openai:[^?#]*\?(?:[^#]*&)?key=([^&#]*)")
"The variable that a server's key is in, of all that may be said of a server."


def stage_inputs(resolved: Any) -> Iterator[str]:
    """The names of the stages that `stage:NAME` refers to, anywhere in some settings."""
    for text in _strings(resolved):
        yield from (match.group(2) for match in STAGE.finditer(text))


def keys_named(resolved: Any) -> list[str]:
    """The variables that some settings say servers' keys are in."""
    return [name for text in _strings(resolved) for name in KEY.findall(text)]


def bind(value: Any, output: Callable[[str, str], str]) -> Any:
    """The same settings with `stage:NAME/FILE` replaced by `output(NAME, "/FILE")`."""
    if isinstance(value, str):
        return STAGE.sub(lambda found: (found[1] or "") + output(found[2], found[3] or ""), value)
    if isinstance(value, Mapping):
        return {key: bind(part, output) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [bind(part, output) for part in value]
    return value


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _strings(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _strings(part)
