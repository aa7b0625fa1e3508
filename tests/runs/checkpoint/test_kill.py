"""SIGKILL at random moments: the newest checkpoint is usable every time and nothing acknowledged is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from trueup.runs import manifest


def kills(folder: Path, count: int) -> dict[str, int]:
    folder.mkdir()
    source = Path(manifest.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("kill.py")), str(folder), str(count)],
        env={**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
        check=True,
    )
    return json.loads(done.stdout)


def check(report: dict[str, int], count: int) -> None:
    assert report["kills"] == count
    assert report["unusable"] == report["lost"] == report["partial"] == 0, report
    assert report["steps"] > 0, "some saves were committed"
    assert report["inside"] >= count // 4, "enough kills fell inside a save"


def test_30_kills(tmp_path: Path) -> None:
    check(kills(tmp_path / "c", 30), 30)


@pytest.mark.slow  # half a minute
def test_500_kills(tmp_path: Path) -> None:
    check(kills(tmp_path / "c", 500), 500)
