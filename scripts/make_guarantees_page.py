"""Writes docs/guarantees.md of tests/guarantees.yaml and test results: page [JUNIT.XML ...].

Results are JUnit files, as `pytest --junitxml=FILE` and `make test ARGS=--junitxml=FILE` write them. What
they say of a test replaces what results/guarantees.json held of it; without one the page is written from what
is held.
"""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
PROMISES = ROOT / "tests" / "guarantees.yaml"
KEPT = ROOT / "results" / "guarantees.json"
PAGE = ROOT / "docs" / "guarantees.md"
LATER = "Not promised yet"
"The list in the file of promises that holds none."
HEAD = """# What is promised, and the tests that hold it

Written by `python scripts/make_guarantees_page.py` from `tests/guarantees.yaml` and the last test results.
*Last result* counts the cases that passed, of those that ran, and says when. `make test` runs one small
instance of each promise, `make test-all` all of them.

{summary}
"""


def outcomes(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """`file::function` with its cases by outcome, from a JUnit file; a test's name there ends before `[`."""
    found: dict[str, dict[str, Any]] = {}
    for suite in ET.parse(path).getroot().iter("testsuite"):
        day = (suite.get("timestamp") or "")[:10]
        for case in suite.iter("testcase"):
            file = "tests/" + case.get("classname", "").removeprefix("tests.").replace(".", "/") + ".py"
            name = f"{file}::{case.get('name', '').partition('[')[0]}"
            row = found.setdefault(name, {"passed": 0, "failed": 0, "skipped": 0, "day": day})
            kinds = {child.tag for child in case}
            bad = bool(kinds & {"failure", "error"})
            row["failed" if bad else "skipped" if "skipped" in kinds else "passed"] += 1
    yield from found.items()


def merged(held: Mapping[str, Any], paths: list[Path]) -> dict[str, Any]:
    """What is held of every test, renewed by these files where they ran more than skipped cases of it."""
    rows = dict(held)
    for path in paths:
        for name, row in outcomes(path):
            if row["passed"] + row["failed"] >= rows.get(name, {}).get("passed", 0) or row["failed"]:
                rows[name] = row
    return rows


def promises() -> dict[str, list[dict[str, Any]]]:
    """The areas with their promises."""
    areas = yaml.safe_load(PROMISES.read_text(encoding="utf-8"))
    return {area: listed for area, listed in areas.items() if area != LATER}


def later() -> list[dict[str, str]]:
    """What is not promised yet, each with why."""
    return yaml.safe_load(PROMISES.read_text(encoding="utf-8"))[LATER]


def of(promise: Mapping[str, Any], rows: Mapping[str, Any]) -> dict[str, Any]:
    """The sum of what is held of a promise's tests, with its oldest day."""
    chosen = [
        row
        for name, row in rows.items()
        for wanted in promise["tests"]
        if name == wanted or name.startswith((f"{wanted}::", f"{wanted}/"))
    ]
    total = {key: sum(row[key] for row in chosen) for key in ("passed", "failed", "skipped")}
    return {**total, "day": min((row["day"] for row in chosen), default="")}


def page(rows: Mapping[str, Any]) -> str:
    """The page's text."""
    parts, counted, held = [], 0, 0
    for area, listed in promises().items():
        parts.append(f"\n## {area}\n\n| | promise | number | tests | last result |\n|---|---|---|---|---|\n")
        for promise in listed:
            last = of(promise, rows)
            ran = last["passed"] + last["failed"]
            counted, held = counted + 1, held + (ran > 0 and not last["failed"])
            said = f"{last['passed']} of {ran}, {last['day']}" if ran else "not run yet"
            limits = promise.get("not_promised", "")
            number = promise["number"] + (f" *Not promised:* {limits}" if limits else "")
            tests = "<br>".join(f"[{_short(t)}](../{t.partition('::')[0]})" for t in promise["tests"])
            parts.append(f"| {promise['id']} | {promise['promise']} | {number} | {tests} | {said} |\n")
    parts.append(f"\n## {LATER}\n\n| | what would be promised | why not |\n|---|---|---|\n")
    parts += [f"| {one['id']} | {one['promise']} | {one['why']} |\n" for one in later()]
    summary = f"{held} of {counted} promises held when they were last tried."
    return HEAD.format(summary=summary) + "".join(parts)


def _short(test: str) -> str:
    file, _, function = test.partition("::")
    return function or file.removeprefix("tests/")


def main(paths: list[Path]) -> None:
    """None; renews what is held and writes the page."""
    held = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}
    wanted = [test for listed in promises().values() for promise in listed for test in promise["tests"]]
    rows = {
        name: row
        for name, row in merged(held, paths).items()
        if any(name == test or name.startswith((f"{test}::", f"{test}/")) for test in wanted)
    }
    KEPT.write_text(json.dumps(rows, indent=0, sort_keys=True) + "\n", encoding="utf-8")
    PAGE.write_text(page(rows), encoding="utf-8")


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
