"""Which world something came from: read from the settings that runs left beside what they made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trueup.errors import TrueupError
from trueup.settings.discover import world_of_procedure
from trueup.settings.strict_yaml import read_yaml
from trueup.worlds.doors import door_of
from trueup.worlds.find import open_world
from trueup.worlds.world import World

SETTINGS = "config.resolved.yaml"
_DEPTH = 2
"How far below its run's folder something that a run made may lie: `model/`, `checkpoints/step-5`."


def came_from(reference: str, planned: Mapping[str, Mapping[str, Any]] = {}) -> str | None:
    """The world that a model's training data, or some groups, came from; None where no run of ours says.

    Follows what earlier stages made, back to a door: a policy to its data, labels to the prompts that were
    sampled from, a soup to its models. Data of two worlds come from neither. `planned` are the settings of
    runs that have not begun, by their folders.
    """
    return _came_from(reference, planned, frozenset())


def world_of(chosen: str, *made: str, where: str, planned: Mapping[str, Mapping[str, Any]] = {}) -> World:
    """The world that is named, or else the one that the first of `made` with an origin came from.

    Raises E763 where nothing says: somebody's own data are not measured in a world that they do not know.
    """
    name = chosen or next(filter(None, (came_from(one, planned) for one in made if one)), None)
    if name is None:
        told = ", ".join(dict.fromkeys(filter(None, made))) or "nothing"
        raise TrueupError(
            "E763",
            f"no world says what this is measured on: {told} comes from data of your own",
            where=where,
            remedy="on the command line --world FILE.yaml, or --data FILE where the command takes one; in a "
            "recipe `world: FILE.yaml` (docs/worlds.md); or a world that comes with trueup",
        )
    return open_world(name)


def truth_about(reference: str) -> Any:
    """How the world that some groups came from grades completions; None where none does, or none is known."""
    name = came_from(reference)
    return open_world(name).grade(open_world(name).believed()) if name else None


def _came_from(
    reference: str, planned: Mapping[str, Mapping[str, Any]], asking: frozenset[str]
) -> str | None:
    # `asking` is the way back to what was asked about, so that a circle ends: two experts that share their
    # data are no circle, so what was seen on another way does not count.
    door = door_of(reference)
    if door is not None:
        return door.world
    settings = settings_of(Path(reference), planned)
    if settings is None or reference in asking:
        return None
    if settings.get("world"):
        return str(settings["world"])
    for places in _sources(settings):
        found = {_came_from(place, planned, asking | {reference}) for place in places}
        return found.pop() if len(found) == 1 else None
    return world_of_procedure(str(settings.get("method", "")))


def settings_of(made: Path, planned: Mapping[str, Mapping[str, Any]] = {}) -> Mapping[str, Any] | None:
    """The settings of the run that made a file or folder, or will make it; None where none of ours did."""
    for folder in (made, *made.parents[:_DEPTH]):
        if str(folder) in planned:
            return planned[str(folder)]
        if (folder / SETTINGS).is_file():
            return read_yaml(folder / SETTINGS).values
    return None


def _sources(settings: Mapping[str, Any]) -> Iterator[list[str]]:
    """What settings read, in the order in which it says what a run is about: its data, then its models."""
    for key in ("data", "prompts", "labels", "model", "sft", "models", "experts", "policies"):
        value = settings.get(key)
        if isinstance(value, Mapping):
            value = value.get("mix") or value.get("path") or value
        parts = (
            value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else [value]
        )
        places = [place for place in parts if isinstance(place, str) and place]
        if places:
            yield places
