"""What the tests of this room begin with."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hostile.folders import good_model
from hostile.inputs import prepare
from hostile.runs import AGAIN
from trueup.cli import main


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model, and everything imported that a command imports."""
    folder = good_model(tmp_path_factory.mktemp("hostile") / "good")
    assert main(["generate", str(folder), "hi", "--max-new-tokens", "1"]) == 0
    return folder


@pytest.fixture(scope="session")
def run(good: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a run has finished, `o`."""
    at = tmp_path_factory.mktemp("run")
    prepare(at, good)
    before = Path.cwd()
    os.chdir(at)
    try:
        assert main(list(AGAIN)) == 0
    finally:
        os.chdir(before)
    return at
