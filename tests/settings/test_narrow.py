"""Source on 80 columns: the same program, every line short."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import trueup
from trueup.settings import discover
from trueup.settings.narrow import narrow

FILES = [discover.place(name)[1] for name in discover.names()]
FILES += sorted((Path(trueup.__file__).parent / "objectives").glob("*.py"))
FILES += [Path(trueup.__file__).parent / "engine/loop.py", Path(trueup.__file__).parent / "sources/sample.py"]


def meaning(source: str) -> str:
    """The program, white space within its texts left out."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = " ".join(node.value.split())
    return ast.dump(tree)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_a_file_is_the_same_program_on_80_columns(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    found = narrow(source)
    assert meaning(found) == meaning(source)
    assert [line for line in found.split("\n") if len(line) > 80] == []


def test_lines_are_broken_by_hand() -> None:
    assert narrow("def f(first, second, third):  # why\n    return first + second", 20) == (
        "# why\ndef f(first,\n    second, third):\n    return first \\\n        + second"
    )
    assert (
        narrow('x = 1\n"a word and another"', 16) == 'x = 1\n(\n    "a word "\n    "and "\n    "another"\n)'
    )
    assert narrow("# a word and another", 12) == "# a word and\n# another"
