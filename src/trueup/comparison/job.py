"""One job of a comparison as a process: `python -m trueup.comparison.job RECIPE FOLDER` runs its stages.

Options behind these are those of `Terms.options`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from trueup.errors import EXIT_PREEMPTED, TrueupError
from trueup.runs.recipe import plan, read_recipe, run_stage
from trueup.runs.signals import Interrupted, stop_requests
from trueup.runs.unchanged import STRICT, Terms, told_first
from trueup.settings.secret import clean, shown_without_keys


def main(recipe: str, folder: str, *options: str) -> int:
    """The exit code: 0 done, `EXIT_PREEMPTED` stopped and saved, else the error's own."""
    try:
        with stop_requests() as stop_requested:
            run(Path(recipe), Path(folder), stop_requested, Terms.of(options))
    except Interrupted:
        return EXIT_PREEMPTED
    except TrueupError as error:
        print(clean(f"error {error}"), file=sys.stderr)
        return error.exit_code
    return 0


def run(recipe: Path, folder: Path, stop_requested: Callable[[], str], terms: Terms = STRICT) -> None:
    """Nothing; every stage of the recipe is done in the folder's `stages`."""
    for stage in plan(read_recipe(recipe), folder):
        told = told_first(stage.folder, stage.settings, stage.config, stage.module)
        print(f"{stage.name}{told}", flush=True)
        run_stage(stage, stop_requested=stop_requested, terms=terms)


if __name__ == "__main__":
    sys.excepthook = shown_without_keys
    sys.exit(main(*sys.argv[1:]))
