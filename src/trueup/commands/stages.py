"""What commands know of the one stage of a method, looked at early, and of what a recipe's stages found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trueup.commands.early import check_keys, check_places
from trueup.runs import one_stage
from trueup.runs.recipe import Stage, run_stage
from trueup.runs.references import stage_inputs
from trueup.settings import config as configuration
from trueup.settings.aliases import ALIASES


def single_stage(
    recipe: str, overrides: configuration.Layer, folder: Path | None = None, *, reads: bool = False
) -> Stage:
    """The one stage that a method's name, its Python file, or a recipe file with `method:` describes.

    One that `reads` will open its model and data: whether they are there is seen before the method is
    imported.
    """
    name, method, given = one_stage.described(recipe)
    said = check_keys(method, given, overrides, where=recipe, aliases=ALIASES)
    resolved = configuration.resolved(said) if said is not None else {}
    done = ((folder or Path("runs") / name) / "DONE.json").is_file()
    if reads and not done and not any(stage_inputs(resolved)):
        check_places(said)
    return one_stage.single_stage(recipe, overrides, folder)


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
