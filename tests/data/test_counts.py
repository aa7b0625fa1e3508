"""Counts are told with the word that goes with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from trueup.cli import main
from trueup.errors import counted


def test_one_is_told_apart_from_many() -> None:
    assert [counted(n, "row") for n in (0, 1, 2)] == ["0 rows", "1 row", "2 rows"]
    assert [counted(n, "entry", "entries") for n in (1, 3)] == ["1 entry", "3 entries"]


@pytest.mark.parametrize(
    ("copies", "told"),
    [
        (2, "note: 1 group repeats an earlier one exactly\nnote: 1 distinct prompt in 2 groups\n"),
        (3, "note: 2 groups repeat an earlier one exactly\nnote: 1 distinct prompt in 3 groups\n"),
    ],
)
def test_notes_on_repeated_rows(
    copies: int, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "a", "chosen": "bc", "rejected": "d"}\n' * copies, encoding="utf-8")
    assert main(["data", "check", str(path)]) == 0
    out = capsys.readouterr().out
    assert told in out and f"chosen is longer in {copies} of {copies} pairs" in out
