"""Commands that train: demo, train, run."""

from __future__ import annotations

import dataclasses
import difflib
import json
import time
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, validators
from rich.console import Console

from trueup.errors import TrueupError
from trueup.reports import render_summary, write_report
from trueup.runs.recipe import (
    Recipe,
    Stage,
    changed_settings,
    led,
    plan,
    read_recipe,
    run_recipe,
    run_stage,
    stage_inputs,
    world_lines,
)
from trueup.runs.signals import stop_requests
from trueup.settings import config as configuration
from trueup.settings import discover
from trueup.settings.aliases import ALIASES

Overrides = Annotated[str, Parameter(allow_leading_hyphen=True, show=False)]
Positive = Annotated[int, Parameter(validator=validators.Number(gte=1))]
RECIPES = Path(str(resources.files("trueup") / "recipes"))
"The recipes and comparisons that come with trueup, some in folders."


def demo(*, out: Path = Path("runs/demo"), seed: int = 0) -> None:
    """Align a small model end to end, on a CPU, in minutes, with nothing to download, and report.

    Runs the base model, the base with an HHH prompt, SFT, a reward model, best-of-16, DPO and PPO in the lab,
    a small world whose truth is known. Run it again and finished stages are skipped; stop it at any moment
    and the same command goes on.

    Parameters
    ----------
    out
        Where the run and its `report.html` go.
    seed
        The seed of everything.
    """
    _run(read_recipe(recipe_path("demo"), {"seed": seed}), out)


def run(recipe: str, /, *overrides: Overrides, out: Path | None = None) -> None:
    """Run a recipe: its stages in order, skipping what is done and resuming what was interrupted.

    `--STAGE.key.path VALUE` changes a setting of a stage, `--seed N` the seed of all, `--world FILE.yaml` the
    world that its doors lead to. `trueup run demo` is what `trueup demo` does.

    Parameters
    ----------
    recipe
        A YAML file, or the name of a recipe that comes with trueup: demo, over-optimise, soups, cai/quick,
        cai/lab, cai/rungs, cai/real, self-align/quick, self-align/lab, self-align/real, tiny-METHOD.
    out
        The run's folder; `runs/NAME` otherwise, which for cai/lab is `runs/cai-lab`.
    """
    given = dict(configuration.parse_overrides(list(overrides)).values)
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
                where=f"command line {name}",
                remedy=f"did you mean `{near[0]}`?" if near else f"its stages: {', '.join(known)}",
            )
    changed = {**top, "stages": given} if given else top
    _run(read_recipe(path, changed), out or default_folder(recipe))


def train(recipe: str, /, *overrides: Overrides, out: Path | None = None) -> None:
    """Train by one method: from a recipe file, or by the method's name with everything else as options.

    `trueup train sft --data.path demos.jsonl --model.path my/model --update.lr 1e-5`. The names of other
    toolkits work too (`--learning_rate`, `--model_name_or_path`, `--num_train_epochs` ...). Stop it at any
    moment; the same command goes on from the last checkpoint. `trueup init METHOD` prints every setting and
    what it does.

    Parameters
    ----------
    recipe
        A YAML file with `method:` at its top, the name of a method, or the path of a method's Python file.
    out
        The run's folder; `runs/NAME` otherwise. Its model is in `model/`.
    """
    layer = configuration.parse_overrides(list(overrides))
    values = dict(layer.values)
    folder = out or (Path(str(values.pop("output_dir"))) if "output_dir" in values else None)
    values.pop("resume_from_checkpoint", None)  # a run always resumes
    stage = single_stage(recipe, dataclasses.replace(layer, values=values), folder)
    refuse_other_run(stage)
    # Paths and metric names are printed as they are, on lines of their own length.
    console = Console(highlight=False, markup=False, soft_wrap=True)
    if stage.done:
        console.print("finished before; to train again, give another --out or remove the folder")
    for line in world_lines([stage], ""):
        console.print(line)
    with stop_requests() as stop_requested:
        done = run_stage(stage, stop_requested=stop_requested)
    made = stage.folder / done.output
    console.print(f"{'model' if made.is_dir() else 'wrote'}: {made}")
    shown = {k: v for k, v in done.metrics.items() if not k.startswith("loss/")}
    console.print("  ".join(f"{name} {value:.4g}" for name, value in shown.items()))
    for line in (*data_lines(stage.folder), *held_out_lines(stage.folder)):
        console.print(line)


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


def single_stage(recipe: str, overrides: configuration.Layer, folder: Path | None) -> Stage:
    """The one stage that a method's name, its Python file, or a recipe file with `method:` describes."""
    path = Path(recipe)
    if path.suffix in (".yaml", ".yml"):
        given = dict(configuration.read_yaml(path).values)
        if "method" not in given:
            raise TrueupError(
                "E721",
                "no `method:` at the top",
                where=recipe,
                remedy="`trueup run` takes recipes of several stages",
            )
        name = path.stem
    else:
        given, name = {"method": recipe}, path.stem
    module = discover.find(str(given.pop("method")))
    config, world = led(vars(module)["Config"], given, overrides, where=recipe, aliases=ALIASES)
    resolved = configuration.resolved(config)
    for name in stage_inputs(resolved):
        raise TrueupError(
            "E708",
            f"`stage:{name}` names an earlier stage, and a run of one stage has none",
            where=recipe,
            remedy="give a path; `trueup run` takes recipes of several stages",
        )
    digest = configuration.digest({"method": module.__name__, "config": resolved})
    return Stage(
        name=name,
        module=module,
        config=config,
        folder=folder or Path("runs") / name,
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
    return Path("runs") / (path.stem if path.is_file() else recipe.replace("/", "-"))


def refuse_other_run(stage: Stage) -> None:
    """Raises E723 when the folder holds a run with other settings, so that no two runs mix."""
    path = stage.folder / "config.resolved.yaml"
    begun = any((stage.folder / name).exists() for name in ("checkpoints", "model", "DONE.json"))
    if not begun or not path.is_file():
        return  # What failed before its first checkpoint left nothing to mix with.
    changed = changed_settings(configuration.read_yaml(path).values, stage.settings)
    if changed:
        raise TrueupError(
            "E723",
            f"this folder holds a run with other settings: {', '.join(changed[:5])}",
            where=str(stage.folder),
            remedy="choose another --out, or remove the folder",
        )


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


def _run(recipe: Recipe, out: Path) -> None:
    console = Console(highlight=False, markup=False, soft_wrap=True)
    started = time.monotonic()
    with stop_requests() as stop_requested:
        run_recipe(recipe, out, stop_requested=stop_requested, say=console.print)
    summary = out / "summary.json"
    if summary.is_file():
        console.print(render_summary(json.loads(summary.read_text(encoding="utf-8"))))
    stages = plan(recipe, out)
    for line in measured_lines(stages):
        console.print(line)
    console.print(f"report: {write_report(out)}")
    counted = "1 stage" if len(stages) == 1 else f"{len(stages)} stages"
    console.print(f"{counted} done in {out} ({time.monotonic() - started:.0f} s)")
