"""The command that compares methods."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, validators
from rich.console import Console

from trueup.commands.train import Overrides
from trueup.runs.shipped import recipe_path, refuse_other_kind
from trueup.settings import config as configuration

Workers = Annotated[int, Parameter(validator=validators.Number(gte=1))]


def compare(recipe: str, /, *overrides: Overrides, out: Path | None = None, workers: Workers = 2) -> None:
    """Compare methods on the same data, model, seeds and budget, and say what each gained and cost.

    Settings are chosen on development prompts at a seed of their own; the reported seeds and the test prompts
    take no part in that. Stop it at any moment; the same command goes on. `--methods.NAME.key.path VALUE`
    changes a setting, `--seeds "[1, 2]"` the seeds.

    Parameters
    ----------
    recipe
        A YAML file, or the name of a comparison that comes with trueup: compare-quick, compare-lab.
    out
        The comparison's folder; `runs/NAME` otherwise.
    workers
        Runs at once, each a process with its share of the cores.
    """
    # Imported here: looking at a command's help needs none of it.
    from trueup.comparison.outcome import markdown
    from trueup.comparison.plan import read_comparison
    from trueup.comparison.run import compare_in
    from trueup.reports.comparison import PAGE

    path = recipe_path(recipe)
    refuse_other_kind(path, needed="methods", other="stages", taken_by="run")
    comparison = read_comparison(path, dict(configuration.parse_overrides(list(overrides)).values))
    folder = out or Path("runs") / comparison.name
    console = Console(highlight=False, markup=False, soft_wrap=True)
    rows = compare_in(folder, comparison, workers=workers, say=console.print)
    console.print(markdown(rows))
    console.print(f"report: {folder / PAGE}")
