"""On which of a world's judges a model was itself trained: read from the settings that runs left behind.

A judge trained a model where it scored what the model's run, or the run of a model that it came from, had
sampled, or where it labelled or chose what such a run learnt from. Who labelled a reward model's data is not
followed: a policy trained on a reward model is trained on that.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trueup.errors import TrueupError
from trueup.settings.strict_yaml import read_yaml
from trueup.settings.weights import model_folder
from trueup.worlds import World, door_of, open_world
from trueup.worlds.origin import settings_of

_MODELS = ("model", "sft", "models", "policies", "experts")
"Settings that name the models that a run's own came from."
_DATA = ("data", "prompts", "labels")
"Settings that name what a run learnt from."
_REFERENCE = re.compile(r"^(?P<path>.*?)(?P<behind>(?<=\.py):\w+|[?#].*)?$", re.DOTALL)


def trained_on(model: str, world: World, also: Sequence[str] = ()) -> list[str]:
    """The names of the world's judges that the model was itself trained on, or that are among some others."""
    used = {one for reference in (*judges_behind(model), *filter(None, also)) for one in _meant(reference)}
    return [name for name in world.judges if used & _meant(f"{world.name}:{name}")]


def judges_behind(model: str) -> list[str]:
    """The references of the judges that a model's training scored, labelled or chose with; each once."""
    return list(dict.fromkeys(_behind(model, (*_MODELS, *_DATA), set())))


def _behind(made: str, keys: Iterable[str], seen: set[str]) -> Iterator[str]:
    if door_of(made) is not None:
        return
    place = model_folder(made)
    settings = settings_of(Path(place))
    if settings is None or place in seen:
        return
    seen.add(place)
    for key in ("judge", "judges"):
        yield from _texts(settings.get(key))
    for text in _texts(settings.get("labeler")):
        yield from _labeler(text)
    for key in keys:
        # What wrote the completions that somebody labelled is not what learns from them.
        further = _DATA if key in _DATA else (*_MODELS, *_DATA)
        for text in _texts(settings.get(key)):
            yield from _behind(text, further, seen)


def _labeler(reference: str) -> Iterator[str]:
    """Who labels: a judge by its reference; nobody that measures where people do, or a world's simulation."""
    door = door_of(reference)
    found: Any = reference
    if door is not None:
        try:
            found = open_world(door.world).labeler(door.name)
        except TrueupError:  # the world has changed since
            return
    if isinstance(found, str) and found != "people":
        yield found


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield from [value] if value else []
        return
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    for part in parts:
        yield from _texts(part)


def _meant(reference: str) -> set[str]:
    """What a reference means, one form for all ways to write it; of a weighted sum also its parts."""
    door = door_of(reference)
    if door is not None:
        try:
            world = open_world(door.world)
            name = world.believed() if door.name == "truth" else door.name
            found = world.judge(name)
        except TrueupError:  # the world has changed since
            return {reference}
        return _meant(found) if isinstance(found, str) else {f"{world.name}:{name}"}
    if reference.startswith("lm:"):
        return {reference.partition("#")[0]}
    said = _REFERENCE.match(reference)
    path, behind = (said["path"], said["behind"] or "") if said else (reference, "")
    if not Path(path).exists():
        return {reference}
    parts = _parts(path) if path.endswith((".yaml", ".yml")) else set[str]()
    return {os.path.realpath(model_folder(path)) + (behind if path.endswith(".py") else "")} | parts


def _parts(path: str) -> set[str]:
    said = read_yaml(Path(path)).values.get("parts")
    named = (
        [part.get("judge") for part in said if isinstance(part, Mapping)] if isinstance(said, list) else []
    )
    return {one for text in named if isinstance(text, str) for one in _meant(text)}
