"""Which rows a run sees: every one once an epoch, none beyond the context; what is lost is said twice."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import small_world
from trueup.cli import main

MODEL = ["--model.path", "my-model"]
ROWS = ["--data.path", "rows.jsonl", "--data.held_out", "0"]


@pytest.fixture(autouse=True)
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder with a model that reads bytes, in a context of 1,024."""
    monkeypatch.chdir(tmp_path)
    small_world.save_model(Path("my-model"))


def with_context(size: int) -> None:
    path = Path("my-model/config.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "max_position_embeddings": size}))


def metrics(folder: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]


# -------------------------------------------------------------------------------------------------- epochs


def test_two_epochs_of_twelve_rows_in_batches_of_five(monkeypatch: pytest.MonkeyPatch) -> None:
    """5, 5, 2 rows and again: six steps, whose trained tokens are exactly twice all tokens; resumed alike."""
    small_world.write(Path("rows.jsonl"), [{"prompt": f"{i}", "completion": "x" * i} for i in range(1, 13)])
    run = ["train", "sft", *MODEL, *ROWS, "--loop.epochs", "2", "--loop.batch", "5", "--loop.save_every", "1"]
    assert main([*run, "--out", "whole"]) == 0
    assert len(metrics("whole")) == 6
    cost = json.loads(Path("whole/DONE.json").read_text())["cost"]
    # Each completion is its letters and an end token.
    assert cost["tokens_trained"] == 2 * sum(i + 1 for i in range(1, 13))

    @contextmanager
    def stopping() -> Iterator[Callable[[], str]]:
        yield lambda: "SIGTERM"

    for _ in range(5):
        with monkeypatch.context() as patch:
            patch.setattr("trueup.commands.train.stop_requests", stopping)
            patch.setattr("trueup.runs.training.end_if_asked", lambda asked: None)  # not before a step
            assert main([*run, "--out", "stopped"]) == 75
    assert main([*run, "--out", "stopped"]) == 0
    for name in ("metrics.jsonl", "model/model.safetensors"):
        assert (Path("stopped") / name).read_bytes() == (Path("whole") / name).read_bytes(), name


def test_a_batch_larger_than_the_data_is_one_pass_a_step() -> None:
    small_world.write(Path("rows.jsonl"), small_world.demonstrations(7))
    assert main(["train", "sft", *MODEL, *ROWS, "--loop.epochs", "3"]) == 0
    assert len(metrics("runs/sft")) == 3


def test_an_epoch_of_prompts_is_asked_for_once_each() -> None:
    """Five prompts in batches of two are three steps, although the method has 40 by default."""
    small_world.write(Path("rows.jsonl"), small_world.prompts(5))
    Path("judge.py").write_text(
        "def score(prompts, completions):\n    return [float(len(c)) for c in completions]\n"
    )
    run = ["train", "grpo", *MODEL, *ROWS, "--judge", "judge.py:score", "--decoding.max_new_tokens", "4"]
    assert main([*run, "--loop.epochs", "1", "--loop.batch", "2", "--num_completions", "2"]) == 0
    assert len(metrics("runs/grpo")) == 3
    cost = json.loads(Path("runs/grpo/DONE.json").read_text())["cost"]
    assert 10 <= cost["tokens_sampled"] <= 5 * 2 * 4


def test_the_learning_rate_ends_with_the_last_epoch() -> None:
    """Linear to 0 over 6 updates: the last has 1/6 of the peak, whatever the sizes of the batches."""
    small_world.write(Path("rows.jsonl"), small_world.demonstrations(12))
    schedule = [
        "--update.schedule",
        "linear",
        "--update.warmup",
        "0",
        "--update.final",
        "0",
        "--update.lr",
        "0.6",
    ]
    run = ["train", "sft", *MODEL, *ROWS, "--loop.epochs", "2", "--loop.batch", "5", *schedule]
    assert main(run) == 0
    assert [row["lr"] for row in metrics("runs/sft")] == pytest.approx([0.6, 0.5, 0.4, 0.3, 0.2, 0.1])


# ------------------------------------------------------------------------------------------------- lengths


def lengths(*letters: int) -> None:
    """Rows of so many letters, and an end token each."""
    rows = [{"prompt": "q", "completion": "x" * (n - 1)} for n in letters]
    small_world.write(Path("rows.jsonl"), rows)


def test_a_context_shorter_than_the_rows_is_found_before_training(capsys: pytest.CaptureFixture[str]) -> None:
    with_context(64)
    lengths(*[20] * 9, 100)
    run = ["train", "sft", *MODEL, *ROWS, "--loop.steps", "1", "--data.max_tokens", "512"]
    assert main(run) == 65
    shown = " ".join(capsys.readouterr().err.split())
    assert "E221 network policy — the longest row takes 101 tokens" in shown
    assert "data.max_tokens is 512, the model's context 64" in shown and "--data.max_tokens 64" in shown
    assert not Path("runs/sft/metrics.jsonl").exists()
    assert main([*run[:-1], "64"]) == 0
    assert "9 to train on, 0 held out, 0 bad, 1 too long" in " ".join(capsys.readouterr().out.split())


def test_a_context_that_is_only_shorter_than_the_limit_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with_context(64)
    lengths(*[20] * 4)
    with caplog.at_level(logging.WARNING, "trueup"):
        assert main(["train", "sft", *MODEL, *ROWS, "--loop.steps", "1"]) == 0
    assert "data.max_tokens is 512, and the context of the model is 64; the longest row has 21" in caplog.text


def test_what_is_sampled_has_to_fit_too(capsys: pytest.CaptureFixture[str]) -> None:
    with_context(64)
    small_world.write(Path("rows.jsonl"), [{"prompt": "x" * 50}])
    Path("judge.py").write_text("def score(prompts, completions):\n    return [0.0 for _ in completions]\n")
    run = [
        "train",
        "grpo",
        *MODEL,
        *ROWS,
        "--judge",
        "judge.py:score",
        "--loop.steps",
        "1",
        "--loop.batch",
        "1",
    ]
    assert main([*run, "--decoding.max_new_tokens", "20"]) == 65
    shown = " ".join(capsys.readouterr().err.split())
    assert (
        "the longest prompt with 20 new tokens takes 70 tokens" in shown and "--data.max_tokens 44" in shown
    )


@pytest.mark.parametrize(("long", "told"), [(1, False), (2, True)])
def test_losing_more_than_a_twentieth_is_said_at_both_ends(
    long: int, told: bool, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    lengths(*[10] * (20 - long), *[90] * long)
    run = ["train", "sft", *MODEL, *ROWS, "--data.max_tokens", "64", "--loop.steps", "1"]
    with caplog.at_level(logging.WARNING, "trueup"):
        assert main(run) == 0
    said = "2 of 20 rows (10 %) are longer than data.max_tokens = 64 and left out; the longest has 91"
    out = capsys.readouterr().out
    assert (said in caplog.text) == (f"warning: {said}" in out) == told
    assert main(run) == 0, "once more, and nothing is trained"
    assert (f"warning: {said}" in capsys.readouterr().out) == told


def test_labels_of_one_kind_are_said_at_both_ends(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"prompt": f"q{i}", "completion": "a", "label": True} for i in range(12)]
    small_world.write(Path("rows.jsonl"), rows)
    with caplog.at_level(logging.WARNING, "trueup"):
        assert main(["train", "kto", *MODEL, *ROWS, "--loop.steps", "1"]) == 0
    said = (
        "KTO: all 12 completions are good: nothing tells good from bad, and the run only raises all of them"
    )
    assert said in caplog.text and f"warning: {said}" in capsys.readouterr().out
