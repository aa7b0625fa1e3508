"""Commands that train: demo, train, run."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, validators
from rich.console import Console

from trueup.reports import render_summary, write_report
from trueup.runs.one_stage import data_lines, held_out_lines, refuse_other_run, single_stage
from trueup.runs.recipe import Recipe, Stage, plan, read_recipe, run_recipe, run_stage, world_lines
from trueup.runs.shipped import default_folder, open_recipe, recipe_path
from trueup.runs.signals import stop_requests
from trueup.settings import config as configuration

Overrides = Annotated[str, Parameter(allow_leading_hyphen=True, show=False)]
Positive = Annotated[int, Parameter(validator=validators.Number(gte=1))]


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
    _run(open_recipe(recipe, given, where="command line"), out or default_folder(recipe))


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
