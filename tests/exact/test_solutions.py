"""Every row of docs/exact.md is reached, and the page has every row."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from exact.solutions import SOLUTIONS, Solution

HERE = Path(__file__).parent
for path in sorted(HERE.glob("known_*.py")):
    importlib.import_module(f"exact.{path.stem}")


@pytest.mark.parametrize("row", SOLUTIONS, ids=lambda row: f"{row.method}: {row.known}"[:60])
def test_the_solution_is_reached(row: Solution) -> None:
    reached = row.reach()
    assert reached <= row.tolerance, f"{row.method}: {row.measured} is {reached:.3g}"
