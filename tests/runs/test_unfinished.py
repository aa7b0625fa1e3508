"""Completions that never end: what a run says of them, what they weigh, what masking leaves."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from eval_stubs import tiny_model
from trueup.errors import TrueupError
from trueup.models.load import save
from trueup.runs.idle import sum_up, warn_of
from trueup.runs.meter import METRICS, Meter, read
from trueup.runs.one_stage import single_stage
from trueup.runs.recipe import run_stage
from trueup.runs.shipped import recipe_path
from trueup.settings import config as configuration

JUDGE = "def score(completion):\n    return -5.0 - sum(map(ord, completion)) % 7\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    save(tiny_model(), folder)
    return folder


def run(name: str, model: Path, folder: Path, *words: str) -> list[dict[str, float]]:
    """The lines that two steps of a tiny recipe log for training; the random model hardly ever stops."""
    (folder / "judge.py").write_text(JUDGE)
    said = ["--model.path", str(model), "--judge", f"{folder / 'judge.py'}:score", *words]
    stage = single_stage(
        str(recipe_path(f"tiny-{name}")), configuration.parse_overrides(said), folder / "run"
    )
    run_stage(stage)
    return [line for line in read(stage.folder / METRICS) if line["phase"] == "train"]


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("grpo", "algorithm.missing_eos"),
        ("ppo", "algorithm.missing_eos"),
        ("scst", "missing_eos"),
        ("online_dpo", "missing_eos"),
        ("raft", "missing_eos"),
        ("hir", "algorithm.missing_eos"),
    ],
)
def test_a_step_of_masked_completions_alone_changes_nothing(
    name: str, key: str, model: Path, tmp_path: Path
) -> None:
    lines = run(name, model, tmp_path, f"--{key}", "mask", "--decoding.max_new_tokens", "1")
    assert [line["step"] for line in lines] == [1, 2]
    for line in lines:
        assert line["masked"] == 1.0 and line["eos_rate"] == 0 and "grad_norm" not in line
        assert line["score/trained"] == line["score"]


def test_the_score_that_trains_is_logged_and_endless_steps_are_warned_of(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="trueup"):
        lines = run("grpo", model, tmp_path, "--decoding.max_new_tokens", "2")
    for line in lines:
        assert line["score"] <= -5 and line["score/trained"] == pytest.approx(line["score"] - 1)
        assert line["advantage/zero"] < 1, "the judge goes on deciding among unfinished ones"
    said = [r.getMessage() for r in caplog.records if "eos_rate" in r.getMessage()]
    assert said[0].startswith("step 1: eos_rate = 0: no completion ended") and "max_new_tokens" in said[0]
    assert said[1:] == [s for s in said[1:] if s.startswith("in 2 of 2 steps eos_rate was 0")] != []


def test_steps_that_teach_nothing_are_warned_of_once_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    meter, told = Meter(tmp_path), set[str]()
    for step, zero in enumerate((0.5, 1.0, 1.0, 0.0), start=1):
        metrics = {"advantage/zero": zero, "eos_rate": 1.0}
        meter.write(step, metrics)
        warn_of(step, metrics, told)
    meter.write(4, {"eos_rate": 0.0}, phase="eval")
    sum_up(tmp_path)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2 and said[0].startswith("step 2: advantage/zero = 1: every advantage is 0")
    assert said[1] == "in 2 of 4 steps advantage/zero was 1: every advantage is 0, so nothing is learned"


def test_a_bonus_for_not_finishing_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(TrueupError, match=r"missing_eos.*≤ 0"):
        run("grpo", model, tmp_path, "--algorithm.missing_eos", "1")
