"""Every row of docs/exact.md is reached, and the page has every row."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from exact.solutions import SOLUTIONS, Solution

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "exact.md"
for path in sorted(HERE.glob("known_*.py")):
    importlib.import_module(f"exact.{path.stem}")


@pytest.mark.parametrize("row", SOLUTIONS, ids=lambda row: f"{row.method}: {row.known}"[:60])
def test_the_solution_is_reached(row: Solution) -> None:
    reached = row.reach()
    assert reached <= row.tolerance, f"{row.method}: {row.measured} is {reached:.3g}"


def maker() -> ModuleType:
    """The script that writes the page."""
    script = HERE.parents[1] / "scripts" / "make_exact_table.py"
    spec = importlib.util.spec_from_file_location("make_exact_table", script)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_has_every_row_and_no_other() -> None:
    """Method, fact, measure and tolerance as here, and a reached figure within the tolerance."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")][1:]
    cells = [line.strip("| ").split(" | ") for line in lines]
    rows = [[cell.strip() for cell in row] for row in cells]
    told = {tuple(row[:4]) for row in rows}
    cell = maker().cell
    known = {(s.method, cell(s.known), cell(s.measured), f"{s.tolerance:g}") for s in SOLUTIONS}
    assert told == known, "run python scripts/make_exact_table.py"
    assert all(float(row[4]) <= float(row[3]) for row in rows)
