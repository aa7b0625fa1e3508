"""`trueup explain`: a page for every code that the source can raise, and none for others."""

from __future__ import annotations

import ast
import json
import re
from importlib.resources import files

import pytest

from architecture.tree import modules
from trueup.cli import main
from trueup.errors import exit_code_of

PAGES = {
    p.name.removesuffix(".md"): p.read_text() for p in files("trueup.explained").iterdir() if p.name[0] == "E"
}


def raised() -> set[str]:
    """Every string in the source that is a code."""
    return {
        node.value
        for module in modules()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.fullmatch(r"E\d{3}", node.value)
    }


def test_every_code_has_its_page_and_every_page_its_code() -> None:
    assert set(PAGES) == raised()


@pytest.mark.parametrize("code", sorted(PAGES))
def test_a_page_says_what_why_and_what_to_do(code: str) -> None:
    text = PAGES[code]
    first, _, rest = text.partition("\n")
    assert re.fullmatch(rf"# {code}: [^A-Z\W].{{8,90}}[^.\s]|# {code}: [A-Z].{{8,90}}[^.\s]", first), first
    assert f"\n{code} " in rest or f"error {code} " in rest, "shows the error as it is printed"
    assert "**What to do.**" in rest
    assert 40 <= len(re.findall(r"\w+", rest)) <= 260
    assert all(len(line) <= 120 for line in text.splitlines())
    assert set(re.findall(r"\bE\d{3}\b", text)) <= set(PAGES), "no page speaks of a code that is not there"


def test_every_error_says_what_to_do() -> None:
    """Nobody makes an error without a remedy, where the raising names one at all."""
    silent = [
        f"{module.name}:{node.lineno}"
        for module in modules()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("TrueupError", "Fault")
        and not any(given.arg in ("remedy", None) for given in node.keywords)
    ]
    assert silent == []


def test_it_is_shown_by_either_spelling(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "E402"]) == 0
    shown = capsys.readouterr().out
    assert "a side of a preference is empty" in shown and "exit code 65" in shown
    assert main(["explain", "402"]) == 0
    assert capsys.readouterr().out == shown
    assert main(["explain", "e402", "--json"]) == 0
    held = json.loads(capsys.readouterr().out)
    assert held["code"] == "E402" and held["exit"] == exit_code_of("E402") == 65
    assert held["text"] == PAGES["E402"]


def test_all_are_listed_and_a_wrong_one_is_answered(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain"]) == 0
    assert capsys.readouterr().out.splitlines()[0].startswith(f"{min(PAGES)}  ")
    assert main(["explain", "E40"]) == 0
    listed = [line.partition("  ")[0] for line in capsys.readouterr().out.splitlines()]
    assert listed == sorted(code for code in PAGES if code.startswith("E40"))
    assert main(["explain", "E4022"]) == 64
    said = " ".join(capsys.readouterr().err.split())
    assert "E719" in said and "E402" in said and "`trueup explain` lists them all" in said
