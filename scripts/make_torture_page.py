"""Writes results/torture.md: make_torture_page.py build/torture.jsonl [JUNIT.XML ...].

A row of the table is a part of `python -m torture` against one command, or a test of a JUnit file. Nothing is
in it that is not in these files.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from make_guarantees_page import outcomes

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "results" / "torture.md"
HEAD = """# Under torture

Written by `python scripts/make_torture_page.py` from what was measured; `make torture` attacks at full length
and renews the page. Commands on tiny models are attacked
[from outside](../docs/checkpoints.md#under-torture), and each is then given again. {total}

| attack | command | tried | held | compared |
|---|---|---|---|---|
"""
COMPARED = {
    "cuts": "all that the command leaves with what an undisturbed one does, by SHA-256; nothing left behind",
    "resumed": "the same, cut again at its second start",
    "full": "ends with 74 and the bytes needed; no good checkpoint lost; with room, the same SHA-256",
    "kills": "all that the command leaves with what an undisturbed one does, by SHA-256",
    "finished": "a finished stage's damaged model is named; no other damage changes a bit elsewhere",
    "damages": "the damaged file is named before the first step; then the same SHA-256",
}
TESTS = {
    "test_through_the_command_line": "each corpus as typed: a coded error, in time, no child left",
    "test_every_command_that_reads_folders": "each hostile folder by every command that reads one: the code",
    "test_rows_to_train_on": "forged rows by `data check`: the right ones set aside, every id",
    "test_prompts_to_generate_from": "forged rows by `generate`: the ids of every prompt",
    "test_questions_of_a_judge": "forged rows by `judge`: the ids of every question",
    "test_critiques_and_revisions": "forged rows by `run` of `revise`: the right ones left out, every id",
    "test_requests_to_the_server": "forged rows sent to `serve`: 400 or 200, every id",
    "test_no_row_forges_a_role": "forged tokens for each family: none gets through, texts come back",
}
"What the slow tests compare, by name."


def attacks(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    """The table's rows of the driver's lines, in the order in which they were made."""
    for part, name in dict.fromkeys((row["part"], row["of"]) for row in rows):
        mine = [row for row in rows if (row["part"], row["of"]) == (part, name)]
        marks = [(sum(bool(row.get(mark)) for row in mine), said) for mark, said in MARKS if mark in mine[0]]
        beside = "".join(f", {count} {said}" for count, said in marks)
        held = sum(row["held"] for row in mine)
        yield f"`{part}`", f"`{name}`", f"{len(mine)}{beside}", str(held), COMPARED[part]


MARKS = (
    ("named", "named"),
    ("inside", "inside a save"),
    ("resumed", "at a second start"),
    ("ran full", "ran full"),
)


def tests(paths: Sequence[Path]) -> Iterator[tuple[str, ...]]:
    """The table's rows of JUnit files: cases that ran, and that passed."""
    for path in paths:
        for name, row in outcomes(path):
            file, _, function = name.partition("::")
            ran = row["passed"] + row["failed"]
            if ran:
                link = f"[{function}](../{file})"
                yield "test", link, f"{ran} cases", str(row["passed"]), TESTS.get(function, "see the test")


def under(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What was typed, when, with which seed and where: a line for each call of the driver; notes."""
    yield "\n## How it was measured\n\nFrom `tests/`:\n\n"
    calls = dict.fromkeys((row["typed"], row["seed"], row["day"], row["machine"]) for row in rows)
    for typed, seed, day, machine in calls:
        yield f"* `python -m torture {typed}`, seed {seed}, {day}, {machine}\n"
    notes = dict.fromkeys(row["note"] for row in rows if row.get("note"))
    yield from (f"\n{note}\n" for note in notes)


def page(rows: Sequence[Mapping[str, Any]], paths: Sequence[Path]) -> str:
    """The page's text."""
    held = sum(row["held"] for row in rows)
    table = [f"| {' | '.join(cells)} |\n" for cells in (*attacks(rows), *tests(paths))]
    lost = [
        f"* `{r['part']}` of `{r['of']}`, {r['at']}: {'; '.join(r['why'])}\n" for r in rows if not r["held"]
    ]
    through = ["\n## What got through\n\n", *lost] if lost else []
    total = f"{held:,} of {len(rows):,} attacks held."
    return "".join((HEAD.format(total=total), *table, *through, *under(rows)))


def main(lines: Path, paths: Sequence[Path]) -> None:
    """None; writes the page."""
    rows = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
    PAGE.write_text(page(rows, paths), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(argument) for argument in sys.argv[2:] if Path(argument).is_file()])
