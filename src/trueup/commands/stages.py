"""What commands know of recipes and of the one stage of a method: by name, resolved, and what was found."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from trueup.commands.early import check_keys, check_places
from trueup.errors import TrueupError
from trueup.runs.recipe import Stage, changed_settings, led, run_stage, stage_inputs
from trueup.settings import config as configuration
from trueup.settings import discover
from trueup.settings.aliases import ALIASES

RECIPES = Path(str(resources.files("trueup") / "recipes"))
"The recipes and comparisons that come with trueup, some in folders."


def data_lines(folder: Path) -> list[str]:
    """What became of the rows that a run read."""
    path = folder / "data.json"
    if not path.is_file():
        return []
    row = json.loads(path.read_text(encoding="utf-8"))
    fates = {"to train on": "train", "held out": "held_out", "bad": "quarantined", "too long": "overlong"}
    told = ", ".join(f"{row[key]} {fate}" for fate, key in {**fates, "shortened": "truncated"}.items())
    return [f"data ({row['format']}): {row['rows_in']} rows, {told}"]


def held_out_lines(folder: Path) -> list[str]:
    """What a finished run measured on held-out groups, a line a metric, accuracies against chance."""
    path = folder / "held_out.json"
    if not path.is_file():
        return []
    lines = []
    for name, row in json.loads(path.read_text(encoding="utf-8")).items():
        interval = "[{:.3f}, {:.3f}]".format(*row["ci95"]) if row["ci95"] else "(no interval)"
        chance = " (chance 0.5)" if "accurac" in name else ""
        lines.append(f"held out {name} {row['mean']:.3f} {interval} over {row['n']} prompts{chance}")
    return lines


def single_stage(
    recipe: str, overrides: configuration.Layer, folder: Path | None = None, *, reads: bool = False
) -> Stage:
    """The one stage that a method's name, its Python file, or a recipe file with `method:` describes.

    One that `reads` will open its model and data: whether they are there is seen before the method is
    imported.
    """
    path = Path(recipe)
    if path.suffix in (".yaml", ".yml"):
        given = dict(configuration.read_yaml(path).values)
        if "method" not in given:
            remedy = "`trueup run` takes recipes of several stages"
            raise TrueupError("E721", "no `method:` at the top", where=recipe, remedy=remedy)
        name = path.stem
    else:
        given, name = {"method": recipe}, path.stem
    method, folder = str(given.pop("method")), folder or Path("runs") / name
    said = check_keys(method, given, overrides, where=recipe, aliases=ALIASES)
    resolved = configuration.resolved(said) if said is not None else {}
    if reads and not (folder / "DONE.json").is_file() and not any(stage_inputs(resolved)):
        check_places(said)
    module = discover.find(method)
    config, world = led(vars(module)["Config"], given, overrides, where=recipe, aliases=ALIASES)
    resolved = configuration.resolved(config)
    for name in stage_inputs(resolved):
        reason = f"`stage:{name}` names an earlier stage, and a run of one stage has none"
        remedy = "give a path; `trueup run` takes recipes of several stages"
        raise TrueupError("E708", reason, where=recipe, remedy=remedy)
    digest = configuration.digest({"method": module.__name__, "config": resolved})
    return Stage(
        name=name,
        module=module,
        config=config,
        folder=folder,
        digest=digest,
        inputs=(),
        world=world,
    )


def recipe_names() -> list[str]:
    """The names of all recipes and comparisons that come with trueup: `demo`, `cai/lab` ..."""
    return sorted(path.relative_to(RECIPES).with_suffix("").as_posix() for path in RECIPES.rglob("*.yaml"))


def recipe_path(name: str) -> Path:
    """The path of a recipe: a file, or one that comes with the package by its name. E722 for neither."""
    path = Path(name)
    if path.is_file():
        return path
    known = recipe_names()
    if name in known:
        return RECIPES / f"{name}.yaml"
    near = difflib.get_close_matches(name, known, 1)
    listed = dict.fromkeys("tiny-METHOD" if other.startswith("tiny-") else other for other in known)
    remedy = f"did you mean `{near[0]}`?" if near else f"a YAML file, or one of {', '.join(listed)}"
    raise TrueupError("E722", "there is no such recipe", where=name, remedy=remedy)


def refuse_other_kind(path: Path, *, needed: str, other: str, taken_by: str) -> None:
    """Raises E721 for a file that says by its top which other command it is for."""
    given = configuration.read_yaml(path).values
    if other in given and needed not in given:
        remedy = f"`trueup {taken_by}` takes such files"
        raise TrueupError("E721", f"`{other}:` at the top, no `{needed}:`", where=str(path), remedy=remedy)


def default_folder(recipe: str) -> Path:
    """Where a recipe's run goes unless told: `runs/mine` of my/mine.yaml, `runs/cai-lab` of cai/lab."""
    path = Path(recipe)
    return Path("runs") / (path.stem if path.is_file() else recipe.replace("/", "-"))


def refuse_other_run(stage: Stage) -> None:
    """Raises E723 when the folder holds a run with other settings, so that no two runs mix."""
    path = stage.folder / "config.resolved.yaml"
    begun = any((stage.folder / name).exists() for name in ("checkpoints", "model", "DONE.json"))
    if not begun or not path.is_file():
        return  # What failed before its first checkpoint left nothing to mix with.
    changed = changed_settings(configuration.read_yaml(path).values, stage.settings)
    if changed:
        reason = f"this folder holds a run with other settings: {', '.join(changed[:5])}"
        remedy = "choose another --out, or remove the folder"
        raise TrueupError("E723", reason, where=str(stage.folder), remedy=remedy)


MEASURED = ("gold", "helpful", "honest", "harmless", "evasive", "toxic", "kl")
"What is shown of each `measure` stage, in this order."


def measured_lines(stages: Sequence[Stage]) -> list[str]:
    """What a recipe's `measure` stages found, a line each, under one head; nothing where there are none."""
    found = {s.name: run_stage(s).metrics for s in stages if s.method == "measure"}
    if not found:
        return []
    width = max(map(len, found))
    head = " ".join(f"{name:>8}" for name in MEASURED)
    rows = [
        f"{name:<{width}} " + " ".join(f"{row[n]:8.3f}" if n in row else " " * 8 for n in MEASURED)
        for name, row in found.items()
    ]
    return [f"{'':<{width}} {head}", *map(str.rstrip, rows)]
