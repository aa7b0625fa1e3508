"""Peaks of memory that runs report are within 10 % of what was planned for them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def _script() -> Any:
    spec = importlib.util.spec_from_file_location("measure_plan", ROOT / "scripts" / "measure_plan.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SCRIPT = _script()


@pytest.mark.parametrize(
    "case",
    # A run in a process of its own, of models large enough that their memory is not noise.
    [pytest.param(name, marks=pytest.mark.slow) for name in SCRIPT.CASES],
)
def test_a_runs_peak_is_the_planned_one(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'src'}")
    found = SCRIPT.measure(SCRIPT.CASES[case])
    assert found["measured"] > 200
    assert found["planned"] == pytest.approx(found["measured"], rel=0.1)
