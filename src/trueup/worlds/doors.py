"""Doors: references that lead into a world, `WORLD:NAME`.

    NAME:prompts           the prompts of a world that comes with trueup
    my/world.yaml:prompts  those of a world in a file
    world:prompts          those of the run's own world, which its setting `world` names

Defaults are written in the last form, so that one setting moves a whole run to another world.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from trueup.worlds.world import World

DEFAULT = "lab"
"The world of a run that names none."
OWN = "world"
"Stands for the run's world in a reference."
_FILE = re.compile(r"^(?P<world>.+\.ya?ml):(?P<name>[^/\\?#][^?#]*)$")
_NAME = re.compile(r"^(?P<world>[a-z][a-z0-9_]*):(?P<name>.+)$")
_LEADS = re.compile(rf"(?:^|(?<==)|(?<=^lm:)){OWN}:(truth\b)?(?=\w|$|/)")


class Door(NamedTuple):
    """A name in a world."""

    world: str
    name: str


@cache
def shipped() -> list[str]:
    """The worlds that come with trueup: the folders of the package that have doors."""
    here = Path(__file__).parent
    return sorted(p.parent.name for p in here.parent.glob("*/doors.py") if p.parent != here)


def door_of(reference: str) -> Door | None:
    """The door that a reference names; None for a reference that leads into no world.

    `world:NAME` of settings that nothing has led anywhere is a door of the default world.
    """
    found = _FILE.match(reference) or _NAME.match(reference)
    if found is None:
        return None
    world, name = found["world"], found["name"]
    if world == OWN:
        world = DEFAULT
    return Door(world, name) if found.re is _FILE or world in shipped() else None


def leads_to(value: Any) -> bool:
    """Whether some settings hold a reference to the run's own world."""
    if isinstance(value, str):
        return _LEADS.search(value) is not None
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return any(map(leads_to, parts))


def lead(value: Any, world: World) -> Any:
    """The same settings with every `world:NAME` leading into `world`, `world:truth` to the judge it believes.

    Raises E762 for the truth of a world that believes no judge.
    """
    if isinstance(value, str):
        return _LEADS.sub(lambda found: f"{world.name}:{world.believed() if found[1] else ''}", value)
    if isinstance(value, Mapping):
        return {key: lead(part, world) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [lead(part, world) for part in value]
    return value
