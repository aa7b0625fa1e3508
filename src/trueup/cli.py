"""The command line: `trueup COMMAND`. It answers to signals from its first line on; the rest loads then."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

from trueup.errors import (
    EXIT_AWAITS,
    EXIT_BUG,
    EXIT_IO,
    EXIT_PREEMPTED,
    EXIT_UNAVAILABLE,
    EXIT_USAGE,
    TrueupError,
    printable,
)
from trueup.runs.devices import leads
from trueup.runs.signals import Interrupted, ending_at_once
from trueup.settings.secret import clean, shown_without_keys


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code of one invocation: 0, or the kind of error as in `trueup.errors`.

    An error is one line on stderr, `error CODE WHERE — REASON — REMEDY`; `waiting` stands first where nothing
    is wrong and people are to answer. A failure that nobody foresaw is one line too; with TRUEUP_TRACEBACK=1
    it is raised.
    """
    with ending_at_once(_say_stopped) as ending:
        try:
            code = _run(arguments)
        except KeyboardInterrupt as stop:
            _say_stopped(str(stop) or "SIGINT", waited=not ending.name)
            code = EXIT_PREEMPTED
        except Exception as error:
            if not ending.name:
                code = _unforeseen(error)
            else:  # what the signal became on its way through an import
                _say_stopped(ending.name)
                code = EXIT_PREEMPTED
        if arguments is None:
            ending.closes(code)
    return code


def _run(arguments: Sequence[str] | None) -> int:
    from cyclopts import CycloptsError

    from trueup.commands.app import app

    # Warnings of other libraries are for those who call them; downloads still show their progress.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if logging.lastResort is not None:
        logging.lastResort.addFilter(_plainly)
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
        if leads():
            _say_interrupted(stop)
        return EXIT_PREEMPTED
    except BrokenPipeError:
        # Whoever read the output has seen enough; Python must not flush into the closed pipe as it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _say_interrupted(stop: Interrupted) -> None:
    if stop.step is None:
        _say(f"stopped ({stop.signal}) while starting: nothing new to save; the same command goes on")
    else:
        _say(f"stopped ({stop.signal}) after step {stop.step}, saved; the same command goes on from there")


def _say_stopped(name: str, waited: bool = False) -> None:
    """Says that a command ended at once: it had nothing to save, or was `waited` for too long."""
    saved = "at once: the same command goes on from the last checkpoint"
    _say(f"stopped ({name}) {saved if waited else '— nothing to save; the same command begins again'}")


def _plainly(record: logging.LogRecord) -> bool:
    """True; what is warned of names files, columns and texts of others, and must not act on the terminal."""
    record.msg, record.args = printable(record.getMessage(), keep="\n\t"), ()
    return True


def _unforeseen(error: Exception) -> int:
    """The exit code of what no command turned into an error of its own, after saying it."""
    if os.environ.get("TRUEUP_TRACEBACK") == "1":
        sys.excepthook = shown_without_keys
        raise error
    if isinstance(error, OSError):  # of a write that the disk refused, the system does not say which file
        remedy = "check the path, the rights and the free space"
        where = "" if error.filename is None else str(error.filename)
        _say_error(TrueupError("E942", error.strerror or str(error), where=where, remedy=remedy))
        return EXIT_IO
    if type(error).__name__ in ("OutOfMemoryError", "MemoryError") or "can't allocate memory" in str(error):
        remedy = "a smaller model, shorter rows or --model.dtype bfloat16 need less; nothing saved was lost"
        _say_error(TrueupError("E904", "memory ran out", remedy=remedy))
        return EXIT_UNAVAILABLE
    reason = f"{type(error).__name__}: {error}".strip().splitlines()[0]
    remedy = "not foreseen, so a mistake of trueup's: please report what TRUEUP_TRACEBACK=1 shows"
    _say_error(TrueupError("E999", reason, remedy=remedy))
    return EXIT_BUG


def _say_error(error: TrueupError) -> None:
    from rich.console import Console

    text = clean(printable(str(error), keep="\n")).replace("[", "\\[")
    head = "[bold]waiting[/]" if error.exit_code == EXIT_AWAITS else "[bold red]error[/]"
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"{head} {text}")


def _say(text: str) -> None:
    """Prints a line, without what may not have been loaded yet."""
    print(clean(printable(text)), file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
