"""The command line: `trueup COMMAND`. Every command is a function here or in `commands`, with its help."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError
from rich.console import Console

from trueup.commands import data, lab, look, models, train
from trueup.errors import EXIT_PREEMPTED, EXIT_USAGE, TrueupError
from trueup.signals import Interrupted

app = App(
    name="trueup",
    help="""True up a language model: align it by any method, and know what it cost.

    Start with `trueup demo`: it aligns a small model in minutes, on a CPU, with nothing to download, and
    writes a report. Then `trueup methods`, `trueup init sft`, `trueup train FILE`.
    """,
    help_format="markdown",
)
app.command(train.demo)
app.command(train.train)
app.command(train.run)
app.command(look.init)
app.command(look.config)
app.command(look.preview)
app.command(look.methods)
app.command(look.show)
app.command(look.cite)
app.command(look.report)
app.command(models.evaluate, name="eval")
app.command(models.chat)
app.command(models.generate)
app.command(models.export)
app.command(data.app)
app.command(lab.app)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code of one invocation: 0, or the kind of error as in `trueup.errors`."""
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        app(arguments, exit_on_error=False, print_error=True, result_action="return_value")
    except CycloptsError:
        return EXIT_USAGE
    except TrueupError as error:
        errors.print(f"[bold red]error[/] {_escaped(str(error))}")
        return error.exit_code
    except Interrupted as stop:
        errors.print(
            f"stopped ({stop.signal}) after step {stop.step}, saved; the same command goes on from there"
        )
        return EXIT_PREEMPTED
    except KeyboardInterrupt:
        errors.print("stopped; the same command goes on from the last checkpoint")
        return EXIT_PREEMPTED
    except BrokenPipeError:
        return 0
    return 0


def _escaped(text: str) -> str:
    return text.replace("[", "\\[")


if __name__ == "__main__":
    sys.exit(main())
