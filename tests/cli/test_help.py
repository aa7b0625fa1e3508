"""Help teaches, and is there at once: no torch, no model, no network is needed to read it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from cyclopts import App

import trueup
from trueup.cli import main
from trueup.commands.app import app

WITHOUT_TORCH = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers", "peft"):
            raise ModuleNotFoundError(f"No module named {name!r}")

sys.meta_path.insert(0, Absent())
from trueup.cli import main
sys.exit(main(sys.argv[1:]))
"""


def commands(found: App = app, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], App]]:
    """Every command by its words, groups of commands left out."""
    for name in found:
        if not name.startswith("-"):
            inner = found[name]
            if inner.default_command is None:
                yield from commands(inner, (*path, name))
            else:
                yield (*path, name), inner


COMMANDS = dict(commands())


def test_every_command_is_here() -> None:
    assert {" ".join(words) for words in COMMANDS} >= {
        "demo", "train", "run", "init", "config", "preview", "methods", "show", "cite", "report", "eval",
        "chat", "generate", "export", "data check", "data convert", "lab show", "lab corpus", "lab build",
    }  # fmt: skip


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_says_what_a_command_does_and_what_each_parameter_is(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"Usage: trueup {' '.join(words)}" in shown
    for argument in COMMANDS[words].assemble_argument_collection(parse_docstring=True):
        if argument.show:
            # A mapping is shown with its keys open: `--columns.KEY`.
            assert argument.parameter.help, f"{words}: {argument.name} has no text"
            assert argument.name.split(".")[0] in shown.replace("\n", "")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("train", "--help"),
        ("--version",),
        ("data", "--help"),
        ("lab", "show", "--num", "1"),
        ("methods",),
    ],
    ids=" ".join,
)
def test_looking_needs_no_torch(arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() and not done.stderr


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == trueup.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", trueup.__version__)


def test_help_takes_less_than_a_second_of_the_processor() -> None:
    code = (
        "import sys, time\nfrom trueup.cli import main\nmain(['--help'])\n"
        "print(time.process_time(), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stderr) < 1.0
