"""What `python -m torture` finds: a command that dies anywhere goes on, by itself, to the same bits."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import trueup
from torture.cuts import CUT, cut_at

TESTS = Path(__file__).parents[1]


SEVERAL = """
import shlex, sys
from torture.__main__ import main
for line in sys.argv[1:]:
    sys.argv = ["torture", *shlex.split(line)]
    if main():
        sys.exit(line)
"""


def driven(*lines: str) -> None:
    """Nothing; `python -m torture LINE` for each, in one process of its own, and every attack held."""
    source = Path(trueup.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", SEVERAL, *lines],
        env={**os.environ, "PYTHONPATH": f"{source}:{TESTS}", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        cwd=TESTS,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def attacked(out: Path, *words: str) -> list[dict[str, object]]:
    """The rows of an attack on commands, all of which held."""
    driven(shlex.join([*words, "--out", str(out)]))
    return rows_of(out)


def rows_of(out: Path) -> list[dict[str, object]]:
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert rows and all(row["held"] for row in rows)
    return rows


def test_a_run_that_is_cut_or_finds_the_disk_full_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    """A run cut at its first start, at its second, and short of room at both, goes on to the same bits.

    A model that was trained is damaged before it is exported, and so is something beside it: it is named, or
    changes nothing. Both in one process, whose imports take as long as either.
    """
    train, export = tmp_path / "train", tmp_path / "export"
    driven(
        f"cuts resumed full --of train --count 3 --out '{train}'",
        f"finished --of export --count 4 --out '{export}'",
    )
    rows = rows_of(train)
    assert [sum(row["part"] == part for row in rows) for part in ("cuts", "resumed", "full")] == [3, 3, 3]
    assert sum(bool(row.get("ran full")) for row in rows) >= 2
    assert [row["named"] for row in rows_of(export)][::2] == [True] * 2


ALL = ("train", "train-best", "train-rl", "run", "reproduce", "soup", "measure-soup", "export", "report")


@pytest.mark.slow  # some 2,500 runs of these commands
@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("part", ["cuts", "resumed"])
def test_every_cut_of_every_command(name: str, part: str, tmp_path: Path) -> None:
    attacked(tmp_path / "rows", part, "--of", name)


@pytest.mark.slow  # a comparison is a dozen stages
def test_a_comparison_that_is_cut_goes_on_to_the_same_table(tmp_path: Path) -> None:
    attacked(tmp_path / "rows", "cuts", "resumed", "--of", "compare", "--count", "12")


@pytest.mark.slow  # 80 runs on small disks
def test_40_fill_levels(tmp_path: Path) -> None:
    rows = attacked(tmp_path / "rows", "full", "--of", "train")
    assert len(rows) == 80 and sum(bool(row["ran full"]) for row in rows) >= 40


@pytest.mark.slow  # 60 kills, 100 damages
def test_kills_and_damages(tmp_path: Path) -> None:
    rows = attacked(tmp_path / "rows", "kills", "--of", "train", "train-rl", "--count", "30")
    assert sum(bool(row["inside"]) for row in rows) >= 30
    attacked(tmp_path / "damages", "damages", "--of", "train", "run", "--count", "60")
    attacked(tmp_path / "finished", "finished", "--of", "run", "soup", "export", "--count", "40")


def test_the_tracer_cuts_where_it_says(tmp_path: Path) -> None:
    """Each cut leaves what had been done before it; one inside a write leaves half of the bytes."""
    root = tmp_path.resolve() / "root"

    def work() -> int:
        (root / "a").mkdir()
        handle = os.open(root / "a" / "file", os.O_WRONLY | os.O_CREAT)
        os.write(handle, b"1234")
        os.rename(root / "a" / "file", root / "b")
        return 3

    left = []
    for number in range(1, 6):
        root.mkdir()
        code = cut_at(root, number, work, tmp_path / "said")
        files = sorted(p for p in root.rglob("*") if p.is_file())
        left.append((code, [(str(p.relative_to(root)), p.read_bytes()) for p in files]))
        for path in sorted(root.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        root.rmdir()
    assert left == [
        (CUT, []),
        (CUT, []),
        (CUT, [("a/file", b"12")]),
        (CUT, [("a/file", b"1234")]),
        (3, [("b", b"1234")]),
    ]
