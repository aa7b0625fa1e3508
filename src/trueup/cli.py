"""The command line: `trueup COMMAND`. Every command is a function here or in `commands`, with its help."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError
from rich.console import Console

from trueup.commands import (
    behaviour,
    compare,
    data,
    doctor,
    evaluate,
    judge,
    lab,
    look,
    models,
    programs,
    rank,
    reproduce,
    serve,
    soup,
    train,
)
from trueup.errors import EXIT_BUG, EXIT_IO, EXIT_PREEMPTED, EXIT_USAGE, TrueupError
from trueup.runs.signals import Interrupted

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
app.command(compare.compare)
app.command(look.init)
app.command(look.config)
app.command(look.preview)
app.command(look.methods)
app.command(look.show)
app.command(look.cite)
app.command(look.report)
app.command(judge.judge)
app.command(rank.rank)
app.command(reproduce.reproduce)
app.command(evaluate.evaluate, name="eval")
app.command(behaviour.toxicity)
app.command(behaviour.refusals)
app.command(behaviour.summaries)
app.command(programs.programs)
app.command(programs.sandbox)
app.command(models.chat)
app.command(models.generate)
app.command(serve.serve)
app.command(models.export)
app.command(soup.soup)
app.command(doctor.doctor)
app.command(data.app)
app.command(lab.app)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code of one invocation: 0, or the kind of error as in `trueup.errors`.

    An error is one line on stderr, `error CODE WHERE — REASON — REMEDY`. A failure that nobody foresaw is
    one line too; with TRUEUP_TRACEBACK=1 it is raised.
    """
    # Warnings of other libraries are for those who call them; downloads still show their progress.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        error.verbose = False
        command = " ".join(("trueup", *(error.command_chain or ())))
        reason = str(error).replace(" Available commands: ", " There are: ")
        reason = reason if reason.endswith("...") else reason.removesuffix(".")
        _say_error(TrueupError("E700", reason, remedy=f"`{command} --help` shows what there is"))
        return EXIT_USAGE
    except TrueupError as error:
        _say_error(error)
        return error.exit_code
    except Interrupted as stop:
        _say(f"stopped ({stop.signal}) after step {stop.step}, saved; the same command goes on from there")
        return EXIT_PREEMPTED
    except KeyboardInterrupt:
        _say("stopped; the same command goes on from the last checkpoint")
        return EXIT_PREEMPTED
    except BrokenPipeError:
        # Whoever read the output has seen enough; Python must not flush into the closed pipe as it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except Exception as error:
        return _unforeseen(error)
    return 0


def _unforeseen(error: Exception) -> int:
    """The exit code of what no command turned into an error of its own, after saying it."""
    if os.environ.get("TRUEUP_TRACEBACK") == "1":
        raise error
    if isinstance(error, OSError) and error.filename is not None:
        remedy = "check the path, the rights and the free space"
        _say_error(
            TrueupError("E942", error.strerror or str(error), where=str(error.filename), remedy=remedy)
        )
        return EXIT_IO
    reason = f"{type(error).__name__}: {error}".strip().splitlines()[0]
    remedy = "not foreseen, so a mistake of trueup's: please report what TRUEUP_TRACEBACK=1 shows"
    _say_error(TrueupError("E999", reason, remedy=remedy))
    return EXIT_BUG


def _say_error(error: TrueupError) -> None:
    text = str(error).replace("[", "\\[")
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"[bold red]error[/] {text}")


def _say(text: str) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True).print(text, markup=False)


if __name__ == "__main__":
    sys.exit(main())
