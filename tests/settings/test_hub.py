"""The hub is asked once and not for long; pipes are not waited for."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from trueup.cli import main
from trueup.settings import hub

SLACK = 1.0
"Seconds beside `hub.WITHIN` that a busy machine may take."


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """The address of a hub that takes connections and never says a word."""
    from huggingface_hub import constants

    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(16)
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "sets"))
        yield address


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("generate some/model hi", "E801"),
        ("chat some/model", "E801"),
        ("export some/model out", "E801"),
        ("train dpo --model.path some/model", "E801"),
        ("data check some/rows", "E114"),
        ("train sft --data.path some/rows", "E114"),
    ],
)
def test_a_hub_that_hangs_is_given_up(
    line: str, code: str, silent: str, capsys: pytest.CaptureFixture[str]
) -> None:
    start = time.monotonic()
    assert main(line.split()) in (66, 69)
    spent = time.monotonic() - start
    error = capsys.readouterr().err
    if not line.startswith("export"):  # a run is a folder, and no id
        assert code in error and f"{silent} does not answer" in error
    assert spent < hub.WITHIN + SLACK, f"{spent:.1f} s"


def test_a_hub_that_refuses_is_given_up_at_once(
    silent: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # discard: nobody listens
    assert main(["generate", "some/model", "hi"]) == 66
    assert "E801" in (error := capsys.readouterr().err) and "http://127.0.0.1:9 does not answer" in error


def test_a_call_is_given_so_long_and_its_errors_are_its_own() -> None:
    assert hub.within(lambda: 3) == 3
    with pytest.raises(KeyError, match="x"):
        hub.within(lambda: {}["x"])
    with pytest.raises(TimeoutError, match=r"0\.05 s"):
        hub.within(lambda: time.sleep(5), 0.05)


PIPES = (
    "train f.yaml",
    "config f.yaml",
    "run f.yaml",
    "compare f.yaml",
    "train dpo --world f.yaml",
    "train ppo --judge f.yaml",
    "train ppo --judge f.py:score",
    "train sft --model.path f.yaml",
    "train sft --data.path f.jsonl",
    "eval lab:base --tasks f.yaml",
    "eval lab:base --tasks lambada --data.lambada f.jsonl",
    "data check f.jsonl",
    "rank f.jsonl",
    "generate lab:base --file f.jsonl",
    "judge f.jsonl out.jsonl --by rule:length",
    "toxicity lab:base --data f.jsonl",
    "refusals lab:base --data f.jsonl",
)


@pytest.mark.parametrize("line", PIPES)
def test_a_pipe_is_not_waited_for(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("f.yaml", "f.jsonl", "f.py"):
        os.mkfifo(name)
    before = signal.signal(signal.SIGALRM, _waited)
    signal.alarm(20)
    try:
        assert main(line.split()) in (64, 65, 66, 77)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    error = capsys.readouterr().err
    assert "not a regular file" in error or "a file, and no folder with a model" in error


def _waited(*_: object) -> None:
    raise AssertionError("it waits for somebody to write")
