"""Where nothing is left of the rows, the error names the setting that took them, and what it says works."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import small_world
from trueup.cli import main


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(small_world.make(tmp_path))
    return tmp_path


def remedied(said: str) -> list[str]:
    """The option that the remedy shows in backquotes, as it is typed."""
    return shlex.split(re.findall(r"`(--[^`]+)`", said)[-1])


def test_all_rows_too_long_names_the_length_that_keeps_one(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "sft", "--model.path", "my-model", "--data.path", "demos.jsonl", "--loop.steps", "1"]
    command += ["--loop.batch", "1", "--data.held_out", "0", "--out", "run"]
    small_world.write(here / "demos.jsonl", small_world.demonstrations(4))
    assert main([*command, "--data.max_tokens", "3"]) == 65
    said = capsys.readouterr().err
    assert re.search(r"error E824 demos\.jsonl .*4 longer than data\.max_tokens = 3, the shortest", said)
    assert main([*command, *remedied(said)]) == 0, said


def test_all_prompts_held_out_is_taken_back_by_its_remedy(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "revise", "--model", "my-model", "--data.path", "prompts.jsonl", "--data.limit", "1"]
    command += ["--steps", "0", "--decoding.max_new_tokens", "2", "--out", "run"]
    assert main([*command, "--data.held_out", "0.999"]) == 65
    said = capsys.readouterr().err
    assert re.search(r"error E825 prompts\.jsonl — no prompt is left", said)
    main([*command, *remedied(said)])
    assert "E825" not in capsys.readouterr().err
