"""Commands that train: demo, train, run."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from trueup.commands.options import AcceptChanged, Flag, FullDigests, Overrides, Positive, say
from trueup.errors import TrueupError, counted
from trueup.runs.devices import joined, leads, world_size
from trueup.runs.launch import launch
from trueup.runs.signals import stop_requests

if TYPE_CHECKING:
    from trueup.runs.recipe import Recipe
    from trueup.runs.unchanged import Terms


def demo(
    *, out: Path = Path("runs/demo"), seed: int = 0, accept_changed_inputs: AcceptChanged = False
) -> None:
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
    from trueup.runs.recipe import read_recipe
    from trueup.runs.shipped import recipe_path
    from trueup.runs.unchanged import Terms

    _run(read_recipe(recipe_path("demo"), {"seed": seed}), out, Terms(accept=accept_changed_inputs))


def run(
    recipe: str,
    /,
    *overrides: Overrides,
    out: Path | None = None,
    accept_changed_inputs: AcceptChanged = False,
    full_digests: FullDigests = False,
) -> None:
    """Run a recipe: its stages in order, skipping what is done and resuming what was interrupted.

    `--STAGE.key.path VALUE` changes a setting of a stage, `--seed N` the seed of all, `--world FILE.yaml` the
    world that its doors lead to. `trueup run demo` is what `trueup demo` does.

    Parameters
    ----------
    recipe
        A YAML file, or the name of a recipe that comes with trueup: demo, real/demo, over-optimise, soups,
        instructgpt/quick, instructgpt/lab, instructgpt/real, cai/quick, cai/lab, cai/rungs, cai/real,
        self-align/quick, self-align/lab, self-align/real, tiny-METHOD.
    out
        The run's folder; `runs/NAME` otherwise, which for cai/lab is `runs/cai-lab`.
    """
    from trueup.commands.early import check_keys
    from trueup.runs.shipped import default_folder, open_recipe
    from trueup.runs.unchanged import Terms
    from trueup.settings.config import parse_overrides

    given = dict(parse_overrides(list(overrides)).values)
    found = open_recipe(recipe, given, where="command line")
    for name, said in found.stages.items():
        keys = {key: value for key, value in said.items() if key != "method"}
        check_keys(str(said.get("method", name)), {"seed": found.seed}, keys, where=f"stages.{name}")
    _run(found, out or default_folder(recipe), Terms(accept=accept_changed_inputs, whole=full_digests))


def train(
    recipe: str,
    /,
    *overrides: Overrides,
    out: Path | None = None,
    devices: Positive = 1,
    shard: Flag = False,
    accept_changed_inputs: AcceptChanged = False,
    full_digests: FullDigests = False,
) -> None:
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
    devices
        How many devices of this machine train together: its GPUs, or as many processes where there are none.
    shard
        Give each device a part of every network, not a copy. `torchrun -m trueup train` takes it as well.
    """
    placed = [] if out is None else ["--out", str(out)]
    options = {
        "--shard": shard,
        "--accept-changed-inputs": accept_changed_inputs,
        "--full-digests": full_digests,
    }
    said = [name for name, given in options.items() if given]
    _launched(["train", recipe, *overrides, *placed, *said], devices)
    from trueup.commands.stages import single_stage
    from trueup.runs.one_stage import (
        data_lines,
        held_out_lines,
        metric_lines,
        refuse_other_run,
        warning_lines,
    )
    from trueup.runs.rates import rate_lines
    from trueup.runs.recipe import run_stage, world_lines
    from trueup.runs.shareable import check_trains
    from trueup.runs.unchanged import Terms
    from trueup.settings.config import parse_overrides

    layer = parse_overrides(list(overrides))
    values = dict(layer.values)
    folder = out or (Path(str(values.pop("output_dir"))) if "output_dir" in values else None)
    values.pop("resume_from_checkpoint", None)  # a run always resumes
    stage = single_stage(recipe, dataclasses.replace(layer, values=values), folder, reads=True)
    refuse_other_run(stage)
    tell = say if leads() else lambda *lines: None
    if stage.done:
        tell("finished before; to train again, give another --out or remove the folder")
    else:
        tell(*rate_lines(stage.module, stage.config, stage.settled))
    tell(*world_lines([stage], ""))
    device = getattr(getattr(stage.config, "model", None), "device", "auto")
    with stop_requests() as stop_requested, joined(shard=shard, device=device) as ranks:
        check_trains(stage.module, ranks)
        terms = Terms(accept=accept_changed_inputs, whole=full_digests)
        done = run_stage(stage, stop_requested=stop_requested, terms=terms, ranks=ranks)
    made = stage.folder / done.output
    tell(
        f"{'model' if made.is_dir() else 'wrote'}: {made}",
        *metric_lines(done.metrics),
        *data_lines(stage.folder),
        *held_out_lines(stage.folder),
        *warning_lines(stage.folder),
    )


def _launched(line: list[str], devices: int) -> None:
    """Nothing, where this process trains; else it starts those that do, and ends with their exit code."""
    if devices > 1 and world_size() == 1:
        raise SystemExit(launch(line, devices))
    if devices > 1 and devices != world_size():
        raise TrueupError(
            "E872",
            f"{devices} devices are asked for, and {world_size()} ranks were started",
            where="--devices",
            remedy="leave it out: whoever starts the ranks says how many there are",
        )


def _run(recipe: Recipe, out: Path, terms: Terms) -> None:
    from trueup.commands.stages import measured_lines
    from trueup.reports import render_summary, write_report
    from trueup.runs.one_stage import warning_lines
    from trueup.runs.recipe import plan, run_recipe

    started = time.monotonic()
    with stop_requests() as stop_requested:
        run_recipe(recipe, out, stop_requested=stop_requested, say=say, terms=terms)
    summary = out / "summary.json"
    if summary.is_file():
        say(render_summary(json.loads(summary.read_text(encoding="utf-8"))))
    stages = plan(recipe, out)
    say(*measured_lines(stages), f"report: {write_report(out)}")
    say(*(line for stage in stages for line in warning_lines(stage.folder, stage.name)))
    say(
        f"{counted(len(stages), 'stage')} done in {out} ({time.monotonic() - started:.0f} s)",
        *_next_lines(out),
    )


def _next_lines(out: Path) -> list[str]:
    """What to type next of a run that left a policy; nothing of one that left none."""
    from trueup.settings.weights import best_policy

    best = best_policy(out)
    if best is None:
        return []
    name = best.parent.name.rpartition("-")[0]
    return [
        f"next: trueup chat {out}  (its best policy, {name})",
        f"      trueup export {best.parent} my-{name}  (a Hugging Face folder)",
        "      trueup train dpo --model.path MODEL --data.path FILE  (your own)",
    ]
