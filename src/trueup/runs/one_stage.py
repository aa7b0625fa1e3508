"""Runs of one stage: a method with its settings in a folder of its own, and what it says at its end."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from trueup.errors import TrueupError, counted
from trueup.runs.rates import as_begun, settle, size_of
from trueup.runs.recipe import Stage, led
from trueup.runs.references import stage_inputs
from trueup.runs.shipped import recipe_names, recipe_path
from trueup.runs.unchanged import changed_settings
from trueup.runs.warned import warnings_of
from trueup.settings import config as configuration
from trueup.settings import discover
from trueup.settings.aliases import ALIASES
from trueup.settings.json_files import read_object, refuse
from trueup.settings.names import as_name


def described(recipe: str) -> tuple[str, str, dict[str, Any]]:
    """(name of the run, method, settings) of a method's name, its Python file, or a file with `method:`."""
    path = Path(recipe)
    if recipe in recipe_names():
        compares = "methods" in configuration.read_yaml(recipe_path(recipe)).values
        raise TrueupError(
            "E721",
            "a recipe that comes with trueup, and no method",
            where=recipe,
            remedy=f"`trueup {'compare' if compares else 'run'} {recipe}` takes it",
        )
    given: dict[str, Any] = {"method": recipe}
    if path.suffix in (".yaml", ".yml"):
        given = dict(configuration.read_yaml(path).values)
        if "method" not in given:
            remedy = "`trueup run` takes recipes of several stages"
            raise TrueupError("E721", "no `method:` at the top", where=recipe, remedy=remedy)
    return as_name(path.stem), str(given.pop("method")), given


def single_stage(recipe: str, overrides: configuration.Layer, folder: Path | None) -> Stage:
    """The one stage that a method's name, its Python file, or a recipe file with `method:` describes."""
    name, method, given = described(recipe)
    module = discover.find(method)
    return stage_of(module, given, overrides, name=name, folder=folder, where=recipe)


def stage_of(
    module: ModuleType,
    *layers: configuration.Layer | Mapping[str, Any],
    name: str,
    folder: Path | None,
    where: str,
    begun: bool = True,
) -> Stage:
    """The one stage that runs a method's module with what the layers say, in `folder` or `runs/NAME`.

    A learning rate of `auto` is the one that the run there has `begun` with, else the table's.
    Raises E708 for settings that name another stage, and what `configuration.build` raises.
    """
    config, world = led(vars(module)["Config"], *layers, where=where, aliases=ALIASES)
    config, settled = as_begun(config, folder or Path("runs") / name) if begun else (config, ())
    if not settled:
        config, settled = settle(module, config, size_of)
    resolved = configuration.resolved(config)
    for other in stage_inputs(resolved):
        raise TrueupError(
            "E708",
            f"`stage:{other}` names an earlier stage, and a run of one stage has none",
            where=where,
            remedy="give a path; `trueup run` takes recipes of several stages",
        )
    return Stage(
        name=name,
        module=module,
        config=config,
        folder=folder or Path("runs") / name,
        digest=configuration.digest({"method": module.__name__, "config": resolved}),
        inputs=(),
        world=world,
        settled=settled,
    )


FREE = tuple(f"sampler.{key}" for key in ("url", "key", "concurrency", "timeout", "patience", "max_gap"))
"Settings that a run may be given others of when it goes on: where a server is, and what is borne."


def refuse_other_run(stage: Stage) -> None:
    """Raises E723 when the folder holds a run with other settings, so that no two runs mix."""
    path = stage.folder / "config.resolved.yaml"
    begun = any((stage.folder / name).exists() for name in ("checkpoints", "model", "DONE.json"))
    if not begun or not path.is_file():
        return  # What failed before its first checkpoint left nothing to mix with.
    changed = changed_settings(_with_defaults(stage, configuration.read_yaml(path).values), stage.settings)
    changed = [key for key in changed if key not in FREE]
    if changed:
        raise TrueupError(
            "E723",
            f"this folder holds a run with other settings: {', '.join(changed[:5])}",
            where=str(stage.folder),
            remedy="choose another --out, or remove the folder",
        )


def _with_defaults(stage: Stage, before: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings of a run before, later ones at their defaults; as they are if they do not build."""
    given = {key: value for key, value in before.items() if key != "method"}
    try:
        built = configuration.build(type(stage.config), given, where=str(stage.folder))
    except TrueupError:
        return before
    return {"method": before.get("method"), **configuration.resolved(built)}


_REMOVE = "remove the file: the run's model does not depend on it"


def data_lines(folder: Path) -> list[str]:
    """What became of the rows that a run read."""
    path = folder / "data.json"
    if not path.is_file():
        return []
    row = read_object(path, remedy=_REMOVE)
    fates = {"to train on": "train", "held out": "held_out", "bad": "quarantined", "too long": "overlong"}
    fates |= {"shortened": "truncated"}
    if not row.keys() >= {"format", "rows_in", *fates.values()}:
        refuse(path, "damaged: it does not say what became of the rows", _REMOVE)
    told = ", ".join(f"{row[key]} {fate}" for fate, key in fates.items())
    return [f"data ({row['format']}): {counted(row['rows_in'], 'row')}, {told}"]


FIRST = ("loss", "accuracy", "rewards/accuracies", "score", "kl", "rewards/margins", "reward", "eos_rate")
LAST = ("grad_norm", "lr", "sampler_gap", "step")
"What is read first of a run's numbers, and what last."


def by_importance(names: Iterable[str]) -> list[str]:
    """The names of metrics as a person reads them: what the run is about, the rest, the step's own."""
    known = list(names)
    between = [name for name in known if name not in (*FIRST, *LAST)]
    return [name for name in (*FIRST, *between, *LAST) if name in known]


def metric_lines(metrics: Mapping[str, float], width: int = 80) -> list[str]:
    """A run's last numbers on lines that fit a terminal; the parts of a loss are in metrics.jsonl."""
    shown = [n for n in by_importance(metrics) if not n.startswith("loss/")]
    # A name and its number stay together: no space to break at, until the lines are broken.
    text = "  ".join(f"{name}\0{metrics[name]:.4g}" for name in shown)
    return [line.replace("\0", " ") for line in textwrap.wrap(text, width, subsequent_indent="  ")]


def warning_lines(folder: Path, name: str = "") -> list[str]:
    """What a run warned of, once more; `name` is the stage's in a run of several."""
    return [f"warning: {name + ': ' if name else ''}{text}" for text in warnings_of(folder)]


def is_estimate(row: Any) -> bool:
    """Whether a JSON value is a mean with its interval, or without one, and over how many it is."""
    if not isinstance(row, dict) or not row.keys() >= {"mean", "ci95", "n"}:
        return False
    numbers = [row["mean"], row["n"], *(row["ci95"] if isinstance(row["ci95"], list) else ())]
    whole = row["ci95"] is None or (isinstance(row["ci95"], list) and len(row["ci95"]) == 2)
    return whole and all(isinstance(number, int | float) for number in numbers)


def held_out_lines(folder: Path) -> list[str]:
    """What a finished run measured on held-out groups, a line a metric, accuracies against chance.

    What came out the same for every group says nothing of them: the ratio of a policy to itself.
    """
    path = folder / "held_out.json"
    if not path.is_file():
        return []
    lines = []
    found = read_object(path, remedy=_REMOVE)
    for name in by_importance(found):
        row = found[name]
        if not is_estimate(row):
            refuse(path, f"damaged: {ascii(name)[:60]} is no estimate", _REMOVE)
        if row["ci95"] and row["ci95"][0] == row["ci95"][1]:
            continue
        interval = "[{:.3f}, {:.3f}]".format(*row["ci95"]) if row["ci95"] else "(no interval)"
        chance = " (chance 0.5)" if "accurac" in name else ""
        lines.append(
            f"held out {name} {row['mean']:.3f} {interval} over {counted(row['n'], 'prompt')}{chance}"
        )
    return lines
