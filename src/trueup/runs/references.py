"""References to stages inside settings: where they stand, and the settings with each replaced by a path."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

STAGE = re.compile(r"(?:^|(?<=[?&])|(?<=^lm:))(\w+=)?stage:([A-Za-z0-9_-]+)(/[^?&#]*)?(?=$|[?&#])")
"Alone, after `lm:`, before options (`stage:NAME?a=1`), or among them (`rule.yaml?a=stage:NAME`)."


def stage_inputs(resolved: Any) -> Iterator[str]:
    """The names of the stages that `stage:NAME` refers to, anywhere in some settings."""
    for text in strings(resolved):
        yield from (match.group(2) for match in STAGE.finditer(text))


def bind(value: Any, output: Callable[[str, str], str]) -> Any:
    """The same settings with `stage:NAME/FILE` replaced by `output(NAME, "/FILE")`."""
    if isinstance(value, str):
        return STAGE.sub(lambda found: (found[1] or "") + output(found[2], found[3] or ""), value)
    if isinstance(value, Mapping):
        return {key: bind(part, output) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [bind(part, output) for part in value]
    return value


def strings(value: Any) -> Iterator[str]:
    """Every text among some settings."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from strings(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from strings(part)
