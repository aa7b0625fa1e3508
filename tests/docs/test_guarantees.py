"""docs/guarantees.md: promises name tests that exist and have held; the page is what its script writes."""

from __future__ import annotations

import ast
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def script() -> Any:
    found = importlib.util.spec_from_file_location("page", ROOT / "scripts" / "make_guarantees_page.py")
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


PAGE = script()
PROMISES = [promise for listed in PAGE.promises().values() for promise in listed]


@pytest.mark.parametrize("promise", PROMISES, ids=lambda p: p["id"])
def test_its_tests_exist(promise: dict[str, Any]) -> None:
    assert promise["promise"].endswith(".") and promise["number"].endswith(".") and promise["tests"]
    for test in promise["tests"]:
        file, _, function = test.partition("::")
        assert (ROOT / file).exists(), test
        if function:
            tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
            assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, test


def test_ids_are_given_once_and_the_page_is_up_to_date() -> None:
    ids = [promise["id"] for promise in PROMISES + PAGE.later()]
    assert len(ids) == len(set(ids))
    held = json.loads(PAGE.KEPT.read_text(encoding="utf-8"))
    assert PAGE.PAGE.read_text(encoding="utf-8") == PAGE.page(held), "python scripts/make_guarantees_page.py"


@pytest.mark.parametrize("promise", PROMISES, ids=lambda p: p["id"])
def test_it_was_tried_and_held(promise: dict[str, Any]) -> None:
    last = PAGE.of(promise, json.loads(PAGE.KEPT.read_text(encoding="utf-8")))
    assert last["passed"] > 0 and not last["failed"], last


def test_a_result_file_is_read_as_it_is(tmp_path: Path) -> None:
    """Two cases of one test passed, one failed; of the other all were skipped."""
    cases = "".join(
        f'<testcase classname="tests.a.test_b" name="{name}">{inner}</testcase>'
        for name, inner in [
            ("test_x[1]", ""),
            ("test_x[a[0]]", ""),
            ("test_x[2]", "<failure/>"),
            ("test_y", "<skipped/>"),
        ]
    )
    (tmp_path / "r.xml").write_text(
        f'<testsuites><testsuite timestamp="2026-01-02T03:04:05">{cases}</testsuite></testsuites>'
    )
    assert dict(PAGE.outcomes(tmp_path / "r.xml")) == {
        "tests/a/test_b.py::test_x": {"passed": 2, "failed": 1, "skipped": 0, "day": "2026-01-02"},
        "tests/a/test_b.py::test_y": {"passed": 0, "failed": 0, "skipped": 1, "day": "2026-01-02"},
    }
    promise = {"tests": ["tests/a/test_b.py"]}
    assert PAGE.of(promise, dict(PAGE.outcomes(tmp_path / "r.xml")))["failed"] == 1
