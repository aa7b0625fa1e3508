"""What is looked at first: whether models, files, judges and settings are there. It takes a part of a second.

What trains or asks a model takes seconds to import; a mistyped name is answered before.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trueup.errors import TrueupError

if TYPE_CHECKING:
    from trueup.settings.strict_yaml import Layer

_TOXICITY, _BY_NAME = "toxicity:", ["lexicon", "detoxify"]


def check_models(*references: str | None) -> None:
    """Nothing; raises E801 where a model is not, what a world says of one that it does not have, and what is
    wrong with its files (`sound.check_sound`).
    """
    from trueup.settings.sound import check_sound
    from trueup.settings.weights import check_model, model_folder
    from trueup.worlds import where_model

    for reference in filter(None, references):
        name = where_model(reference)
        check_model(name)
        if (folder := Path(model_folder(name))).is_dir():
            check_sound(folder)


def check_file(path: Path | None, what: str = "a JSON Lines file") -> None:
    """Nothing; raises E801 for a file that is named and is not there, or would be waited for: a pipe."""
    if path is None or path.is_file():
        return
    if path.exists() and not path.is_dir():
        raise TrueupError("E801", "not a regular file", where=str(path), remedy="save it to a file first")
    raise TrueupError("E801", "no such file", where=str(path), remedy=f"name {what}")


def check_judge(reference: str | None) -> None:
    """Nothing; raises E801 for a judge's file or folder that is not there, E761 or E792 for a wrong name."""
    from trueup.worlds import door_of, open_world
    from trueup.worlds.doors import shipped

    if not reference or reference.startswith(("http://", "https://", "openai:", "lm:openai:")):
        return
    door = door_of(reference)
    place = re.sub(r"([?#].*|(?<=\.py):\w+)$", "", reference).removeprefix(_TOXICITY)
    if door is not None:
        world = open_world(door.world)
        found = world.judge(world.believed() if door.name == "truth" else door.name)
        check_judge(found if isinstance(found, str) else None)
    elif reference.startswith("lm:"):
        check_models(place.removeprefix("lm:"))
    elif reference.startswith("rule:"):
        from trueup.judges.rules import open_rule

        open_rule(reference)
    elif Path(place).is_dir():
        check_models(place)
    elif Path(place).exists():
        check_file(Path(place))
    elif not (Path(place).exists() or (reference.startswith(_TOXICITY) and place in _BY_NAME + shipped())):
        remedy = "name a reward model's folder, FILE.py:NAME, FILE.yaml, world:truth, rule:NAME or lm:MODEL"
        raise TrueupError("E801", "no such file or folder", where=f"judge {reference}", remedy=remedy)


def check_keys(
    method: str,
    *layers: Layer | Mapping[str, Any],
    where: str,
    aliases: Mapping[str, Any] | None = None,
) -> Any:
    """The settings that some layers state, unchecked but for their names (E711); None where more is wrong.

    Files of the user's own are not looked into.
    """
    from trueup.runs.recipe import led
    from trueup.settings import reading
    from trueup.settings.discover import place

    file = reading.read_file(*place(method))
    config = None if method.endswith(".py") else reading.lookup(file, "Config")
    if config is None:
        return None
    try:
        return led(reading.outline(config), *layers, where=where, aliases=aliases)[0]
    except TrueupError as error:
        if error.code == "E711":
            raise
        return None  # What is wrong with a value, the settings say themselves.


def check_places(settings: Any) -> None:
    """Nothing; raises what is wrong with where a run's model, data and judge are said to be."""
    from trueup.data.places import rows_of
    from trueup.worlds import door_of

    model, data = getattr(settings, "model", None), getattr(settings, "data", None)
    check_models(getattr(model, "path", None))
    if data is not None and not isinstance(data, str):
        for path in (data.path, *(data.mix or {}).values()):
            if path and door_of(path) is None:
                rows_of(path, data.split or "train")
    judge = getattr(settings, "judge", None)
    check_judge(judge if isinstance(judge, str) else None)
