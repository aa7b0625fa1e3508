"""A world by its name: one that comes with trueup, or a file of the user's."""

from __future__ import annotations

import difflib
import importlib
from typing import cast

from trueup.errors import TrueupError
from trueup.worlds.doors import door_of, shipped
from trueup.worlds.files import read_world
from trueup.worlds.world import World


def open_world(name: str) -> World:
    """The world of a name, or in a YAML file.

    Raises E760 for a name that no world has, E801 for a missing file, E7xx for one that says something else.
    """
    if name.endswith((".yaml", ".yml")):
        return read_world(name)
    if name in shipped():
        return cast(World, vars(importlib.import_module(f"trueup.{name}.doors"))["WORLD"])
    near = difflib.get_close_matches(name, shipped(), 1)
    raise TrueupError(
        "E760",
        f"there is no world {name!r}",
        where="world",
        remedy=f"did you mean {near[0]!r}?" if near else f"give FILE.yaml, or one of {', '.join(shipped())}",
    )


def where_model(reference: str) -> str:
    """The folder or id of a model; of a door, that of the world it leads to, through as many as there are.

    Raises E761 for a door that leads back to itself.
    """
    seen: set[str] = set()
    while (door := door_of(reference)) is not None:
        if reference in seen:
            raise TrueupError(
                "E761", "this model leads back to itself", where=reference, remedy="name a folder"
            )
        seen.add(reference)
        reference = open_world(door.world).model(door.name)
    return reference


def written(name: str, kind: str) -> str:
    """What reads as a name or path of some text: that of a world, by `WORLD:NAME` or its name alone."""
    door = door_of(name)
    if door is not None:
        return open_world(door.world).text(door.name)
    return open_world(name).text(kind) if name in shipped() else name
