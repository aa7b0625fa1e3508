"""One job of a comparison as a process: `python -m trueup.comparison.job RECIPE FOLDER` runs its stages.

Options behind these are those of `Terms.options`, `LED`, and `ended:FILE`, which leaves the exit code there.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from trueup.engine import disk
from trueup.errors import EXIT_BUG, EXIT_PREEMPTED, TrueupError
from trueup.runs.hold import mark
from trueup.runs.recipe import plan, read_recipe, run_stage
from trueup.runs.signals import Interrupted, stop_requests
from trueup.runs.unchanged import STRICT, Terms, told_first
from trueup.settings.secret import clean, shown_without_keys

ENDED = "(all stages done)"
"The last line that a job writes whose stages are done; no stage has such a name."
LED = "led"
"An argument of a job whose standard input ends when the process that leads it does, even by SIGKILL."
ENDED_IN = "ended:"
"Begins the argument of a job that nobody waits for as its parent: the file that is to hold its exit code."


def main(recipe: str, folder: str, *options: str) -> int:
    """The exit code: 0 done, `EXIT_PREEMPTED` stopped and saved, else the error's own."""
    try:
        with stop_requests() as stop_requested:
            if LED in options:
                threading.Thread(target=_end_with_leader, daemon=True).start()
            terms = Terms.of([option for option in options if option != LED])
            run(Path(recipe), Path(folder), stop_requested, terms)
    except Interrupted:
        return EXIT_PREEMPTED
    except TrueupError as error:
        print(clean(f"error {error}"), file=sys.stderr)
        return error.exit_code
    return 0


def _end_with_leader() -> None:
    """Asks this process to save and end once standard input has ended: nobody waits for it any more."""
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)


def run(recipe: Path, folder: Path, stop_requested: Callable[[], str], terms: Terms = STRICT) -> None:
    """Nothing; every stage of the recipe is done in the folder's `stages`."""
    for stage in plan(read_recipe(recipe), folder):
        told = told_first(stage.folder, stage.settings, stage.config, stage.module)
        print(f"{stage.name}{told}", flush=True)
        run_stage(stage, stop_requested=stop_requested, waits=True, terms=terms)
    print(ENDED, flush=True)


def main_noted(*arguments: str) -> int:
    """What `main` gives, left in the file that `ended:FILE` names, 70 after a fault of ours."""
    noted = [Path(word.removeprefix(ENDED_IN)) for word in arguments if word.startswith(ENDED_IN)]
    code = EXIT_BUG
    if noted:
        mark(
            sys.stdout.fileno()
        )  # `watch` sees by it that the job is at work; who starts a child marks for it
    try:
        code = main(*(word for word in arguments if not word.startswith(ENDED_IN)))
    finally:
        for path in noted:
            disk.write(path, f"{code}\n")
    return code


if __name__ == "__main__":
    sys.excepthook = shown_without_keys
    sys.exit(main_noted(*sys.argv[1:]))
