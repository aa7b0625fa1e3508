"""What the tests of this room begin with."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from hostile.folders import good_model
from hostile.inputs import prepare
from hostile.runs import AGAIN
from trueup.cli import main

SECONDS = 5.0
"Of processor time, for one command once everything is imported."
HANGS = 60
"Seconds after which a command is taken to hang."


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


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[object]:
    """A function that types a command in a folder, and gives the code of its error, "" for none."""

    def hung(*_: object) -> None:
        raise TimeoutError(f"nothing after {HANGS} s")

    def run(at: Path, words: Sequence[str]) -> str:
        monkeypatch.chdir(at)
        capsys.readouterr()
        began, before = time.process_time(), children()
        signal.alarm(HANGS)
        try:
            code = main(list(words))
        finally:
            signal.alarm(0)
        assert time.process_time() - began < SECONDS
        assert children() <= before
        return ending(code, *capsys.readouterr())

    handler = signal.signal(signal.SIGALRM, hung)
    yield run
    signal.signal(signal.SIGALRM, handler)


def children() -> set[str]:
    """The processes that this one has started and that are there still.

    The one in which templates are rendered is not counted: it waits for the next, and ends with this process.
    """
    lists = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    numbers = {number for path in lists for number in path.read_text().split()}
    return {number for number in numbers if b"woven.py" not in _started_as(number)}


def _started_as(number: str) -> bytes:
    try:
        return Path(f"/proc/{number}/cmdline").read_bytes()
    except OSError:  # it has ended meanwhile
        return b""


def ending(code: int, out: str, err: str) -> str:
    """The code of a command's error, "" for none, after a look at all it said."""
    assert "Traceback" not in err and "E999" not in err, err
    plain = (out + err).replace("\n", "").replace("\t", "").replace("\r", "")
    assert plain.isprintable(), ascii(plain)
    errors = [line for line in err.splitlines() if line.startswith("error E")]
    assert (code != 0) == bool(errors), (code, err)
    if not errors:
        return ""
    assert len(errors) == 1 and code in (64, 65, 66, 69, 74, 77), errors
    # Code, place and reason, and what to do about it.
    assert errors[0].count(" — ") >= 2, errors[0]
    return errors[0].split()[1]
