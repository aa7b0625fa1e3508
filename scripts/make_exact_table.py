"""Writes docs/exact.md: python scripts/make_exact_table.py (from anywhere; needs the test tools)."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests"
PAGE = ROOT / "docs" / "exact.md"
HEAD = """# What is known exactly, and how near each method comes

Each row is a fact that can be worked out without the code it tests: by enumerating every completion of a
small world, by a closed form, or by a generic optimiser on a formula written anew. What is measured is the
method as it is built for real, with its own annotators, objective and update rule. The worlds have 3 tokens:
`even` has 27 completions of 3 tokens under one prompt; `ragged` has two prompts of 1 and 2 tokens and 15
completions of 1 to 3 tokens that may end early. Everything is float64.

The tests (`pytest tests/exact`) ask each row to be within its tolerance; `python scripts/make_exact_table.py`
measures them again and writes this page. The last digits of "reached" may differ on another machine.

| method | what is known | what is measured | tolerance | reached |
|---|---|---|---|---|
"""


def table() -> str:
    """The page, every row measured now."""
    sys.path.insert(0, str(TESTS))
    for path in sorted((TESTS / "exact").glob("known_*.py")):
        importlib.import_module(f"exact.{path.stem}")
    solutions = importlib.import_module("exact.solutions").SOLUTIONS
    lines = [
        f"| {s.method} | {_cell(s.known)} | {_cell(s.measured)} | {s.tolerance:g} | {s.reach():.1e} |"
        for s in sorted(solutions, key=lambda s: s.method)
    ]
    return HEAD + "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(table(), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")
