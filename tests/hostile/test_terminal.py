"""What files, models and people say moves no cursor: it is shown by its code, and JSON and YAML keep it."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from trueup.cli import main
from trueup.commands.options import say, say_json
from trueup.errors import TrueupError, printable
from trueup.settings.strict_yaml import dump_yaml, parse_yaml

ACTS = [
    "\x1b[2J",
    "\x1b]0;title\x07",
    "\x9b31m",
    "\x7f",
    "\x08\x08",
    "\u202etxt",
    "\u2028",
    "\u200b",
    "\U000e0041",
]


def plain(text: str) -> bool:
    return text.replace("\n", "").replace("\t", "").isprintable()


@pytest.mark.parametrize("acts", ACTS, ids=ascii)
def test_what_is_printed_is_printable(acts: str, capsys: pytest.CaptureFixture[str]) -> None:
    say(f"a{acts}b")
    say_json({f"k{acts}": [acts, "ü😀"]})
    out = capsys.readouterr().out
    first, rest = out.split("\n", 1)
    assert plain(out) and "a\\u" in first and first.endswith("b")
    assert json.loads(rest) == {f"k{acts}": [acts, "ü😀"]}
    assert plain(dump_yaml({"a": acts})) and parse_yaml(dump_yaml({"a": acts})).values == {"a": acts}
    assert TrueupError("E801", "none", where=f"a{acts}").where.isprintable()


def test_ordinary_text_is_left_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    say("naïve 数 😀 [bold]x[/]")
    assert capsys.readouterr().out == "naïve 数 😀 [bold]x[/]\n"
    assert dump_yaml({"a": "naïve 数"}) == "a: naïve 数\n"
    assert printable("a\nb", keep="\n") == "a\nb"


@pytest.mark.parametrize("acts", [a for a in ACTS if a != "\u2028"], ids=ascii)
def test_through_commands(acts: str, run: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(run)
    capsys.readouterr()
    assert main(["generate", "good", f"say {acts}", "--max-new-tokens", "8"]) == 0
    out = capsys.readouterr().out
    assert plain(out) and json.loads(out)["prompt"] == f"say {acts}"
    assert main(["config", "sft", "--data.path", f"d{acts}"]) == 0
    out = capsys.readouterr().out
    assert plain(out) and parse_yaml(out).values["data"]["path"] == f"d{acts}"
    assert main(["report", "o", "--out", str(tmp_path / f"r{acts.replace('/', '')}.html")]) == 0
    assert main(["export", "o", str(tmp_path / f"x{acts}")]) == 0
    assert main(["generate", f"./no{acts}", "hi"]) == 66
    assert main(["data", "check", f"./no{acts}.jsonl"]) == 66
    found = capsys.readouterr()
    assert plain(found.out + found.err)


def test_warnings_are_said_plainly() -> None:
    """In a program of its own: a test's own handlers hear warnings first."""
    code = (
        "import logging, trueup.cli as c; c.main(['config', 'sft']);"
        "logging.getLogger('trueup').warning('%s', 'a\\x1b[2Jb')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "a\\u001b[2Jb\n"
    assert logging.lastResort is not None
