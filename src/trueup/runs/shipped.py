"""Recipes and comparisons that come with trueup, and recipes by their name or path."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from trueup.errors import TrueupError
from trueup.runs.recipe import Recipe, read_recipe
from trueup.settings import config as configuration
from trueup.settings import discover
from trueup.settings.names import as_name

RECIPES = Path(str(resources.files("trueup") / "recipes"))
"The recipes and comparisons that come with trueup, some in folders."


def open_recipe(recipe: str, changes: Mapping[str, Any], *, where: str) -> Recipe:
    """The recipe of a name or in a file, changed: settings by stage, `seed`, `name` and `world` at the top.

    Raises E711 for a stage that it does not have, E721 for a file of another kind, E722 for no such recipe.
    """
    given = dict(changes)
    path = recipe_path(recipe)
    refuse_other_kind(path, needed="stages", other="methods", taken_by="compare")
    top = {key: given.pop(key) for key in ("seed", "name", "world") if key in given}
    known = read_recipe(path).stages
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            raise TrueupError(
                "E711",
                f"the recipe has no stage {name!r}",
                where=f"{where} {name}",
                remedy=f"did you mean `{near[0]}`?" if near else f"its stages: {', '.join(known)}",
            )
    return read_recipe(path, {**top, "stages": given} if given else top)


def recipe_names() -> list[str]:
    """The names of all recipes and comparisons that come with trueup: `demo`, `cai/lab` ..."""
    return sorted(path.relative_to(RECIPES).with_suffix("").as_posix() for path in RECIPES.rglob("*.yaml"))


def recipe_path(name: str) -> Path:
    """The path of a recipe: a file, or one that comes with the package by its name. E722 for neither."""
    path = Path(name)
    if path.exists() and not path.is_dir():
        return path
    known = recipe_names()
    if name in known:
        return RECIPES / f"{name}.yaml"
    if any(name in discover.names(package) for package in discover.PLACES):
        raise TrueupError(
            "E722", "a method, and no recipe of stages", where=name, remedy=f"`trueup train {name}` runs it"
        )
    near = difflib.get_close_matches(name, known, 1)
    listed = dict.fromkeys("tiny-METHOD" if other.startswith("tiny-") else other for other in known)
    raise TrueupError(
        "E722",
        "there is no such recipe",
        where=name,
        remedy=f"did you mean `{near[0]}`?" if near else f"a YAML file, or one of {', '.join(listed)}",
    )


def refuse_other_kind(path: Path, *, needed: str, other: str, taken_by: str) -> None:
    """Raises E721 for a file that says by its top which other command it is for."""
    given = configuration.read_yaml(path).values
    if other in given and needed not in given:
        raise TrueupError(
            "E721",
            f"`{other}:` at the top, no `{needed}:`",
            where=str(path),
            remedy=f"`trueup {taken_by}` takes such files",
        )


def default_folder(recipe: str) -> Path:
    """Where a recipe's run goes unless told: `runs/mine` of my/mine.yaml, `runs/cai-lab` of cai/lab."""
    path = Path(recipe)
    return Path("runs") / as_name(path.stem if path.is_file() else recipe.replace("/", "-"))
