"""docs/formats.md says what the code does: its rows are read, its codes and functions are the code's."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import trueup.data
from trueup.data import hygiene, read, similar
from trueup.data.formats import all_formats
from trueup.errors import TrueupError

PAGE = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")
SOURCE = Path(trueup.data.__file__).parent


def test_every_row_on_the_page_is_detected_and_read(tmp_path: Path) -> None:
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| `(\{.*?\})` \|", PAGE, flags=re.MULTILINE)
    assert {name for name, _ in rows} == set(all_formats()) and len(rows) == 36
    for number, (name, row) in enumerate(rows):
        path = tmp_path / f"{number}.jsonl"
        path.write_text(row + "\n", encoding="utf-8")
        result = read(path)
        assert result.format == name, row
        assert len(result.groups) == (2 if name == "self-instruct" else 1)


def test_every_code_is_explained_and_no_other() -> None:
    used = {
        code for path in SOURCE.rglob("*.py") for code in re.findall(r'"(E\d{3})"', path.read_text("utf-8"))
    }
    explained = re.findall(r"^\| (E\d{3}) \|", PAGE, flags=re.MULTILINE)
    assert sorted(used) == explained


def test_the_suffixes_are_those_that_are_read(tmp_path: Path) -> None:
    table = PAGE.split("| suffix |")[1].split("\n\n")[0]
    first_cells = " ".join(line.split(" | ")[0] for line in table.splitlines())
    (tmp_path / "a.txt").touch()
    with pytest.raises(TrueupError) as caught:
        read(tmp_path / "a.txt")
    assert set(re.findall(r"`(\.[a-z.]+)`", first_cells)) == set(
        re.findall(r"\.[a-z.]+[a-z]", caught.value.remedy)
    )


def test_the_functions_exist_and_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = re.findall(r"^\| `([a-z_]+)\(", PAGE, flags=re.MULTILINE)
    assert len(named) == 7
    assert all(callable(getattr(hygiene, name, None) or getattr(similar, name, None)) for name in named)
    monkeypatch.chdir(tmp_path)
    row = '{"prompt": "q", "chosen": "a", "rejected": "b"}\n'
    Path("preferences.jsonl").write_text(row, encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    done = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True, check=True)
    assert "preferences.jsonl: preference (1 of 1 row has prompt, chosen, rejected)" in done.stdout
    assert len(read("groups.parquet").groups) == 1
