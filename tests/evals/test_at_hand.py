"""What a model of no world sits: the tasks whose items are here, and what is said of the others."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

import small_world
from trueup.cli import main


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a model and a run of a user's own, and a hub's cache of its own."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "sets"))
    small_world.make(tmp_path)
    rows = [{"text": f"what is {i}? it is {i}"} for i in range(6)]
    small_world.write(tmp_path / "passages.jsonl", rows)
    monkeypatch.chdir(tmp_path)
    return tmp_path


TRAIN = "train dpo --model.path my-model --data.path preferences.jsonl --loop.steps 1"


def test_a_users_run_sits_what_is_here_and_says_what_is_not(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(TRAIN.split()) == 0
    (here / "hub/datasets--truthfulqa--other").mkdir(parents=True)
    capsys.readouterr()
    line = "eval runs/dpo --against my-model --data.lambada passages.jsonl --json --out out"
    assert main(line.split()) == 0
    document = json.loads(capsys.readouterr().out)
    assert [(row["task"], row["items"]) for row in document["tasks"]] == [("lambada", 6)]
    missing = document["missing"]
    assert "lambada" not in missing and missing["hellaswag"] == "--tasks hellaswag fetches it"
    assert missing["truthfulqa_mc1"] == "--tasks truthfulqa_mc1 fetches it"
    assert missing["number_answer"] == "--data.number_answer FILE" and "last_word" not in missing
    assert main(["eval", "runs/dpo", "--data.lambada", "passages.jsonl"]) == 0
    (said,) = [row for row in capsys.readouterr().out.splitlines() if row.startswith("not sat")]
    assert "--tasks hellaswag,truthfulqa_mc1," in said and "--data.TASK FILE brings calibration," in said


def test_what_was_fetched_is_here(here: Path) -> None:
    from trueup.evals.at_hand import at_hand

    (here / "hub/datasets--Rowan--hellaswag").mkdir(parents=True)
    (here / "sets/truthfulqa___truthful_qa").mkdir(parents=True)
    ready, missing = at_hand({})
    paper = ["truthfulqa_paper_mc1", "truthfulqa_paper_mc2"] if find_spec("lm_eval") else []
    assert ready == ["hellaswag", "truthfulqa_mc1", "truthfulqa_mc2", *paper, "truthfulqa_ranking"]
    assert missing["lambada"] == "--tasks lambada fetches it"


def test_with_nothing_here_the_ways_on_are_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "my-model"]) == 64
    error = capsys.readouterr().err
    assert "E766" in error and "--tasks hellaswag,lambada," in error
    assert "--data.TASK FILE brings calibration," in error and "--world FILE.yaml" in error


def test_a_run_on_the_labs_data_sits_the_labs_exams(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = "train sft --model.path my-model --data.limit 8 --loop.steps 1 --out lab"
    assert main(line.split()) == 0
    capsys.readouterr()
    assert main(["eval", "lab", "--limit", "2", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert "last_word" in {row["task"] for row in document["tasks"]} and "missing" not in document
