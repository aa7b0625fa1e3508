"""Best-of-n as a procedure: what it keeps is what the judge likes best, and feeds supervised finetuning."""

from __future__ import annotations

from pathlib import Path

import pytest

from eval_stubs import tiny_model
from trueup.engine.groups import read_jsonl
from trueup.models.load import save
from trueup.runs.one_stage import single_stage
from trueup.runs.recipe import Done, run_stage
from trueup.settings import config as configuration


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    save(tiny_model(), folder)
    (folder / "judge.py").write_text(
        "def length(prompt, text):\n    return float(len(text.encode()))\n", encoding="utf-8"
    )
    return folder


def sample(model: Path, folder: Path, n: int) -> Done:
    options = ["--data.limit", "6", "--decoding.max_new_tokens", "8", "--n", str(n)]
    given = [*options, "--model.path", str(model), "--judge", f"{model / 'judge.py'}:length"]
    return run_stage(single_stage("best_of_n", configuration.parse_overrides(given), folder))


def test_the_kept_completion_has_the_highest_score(model: Path, tmp_path: Path) -> None:
    done = sample(model, tmp_path, 4)
    kept = read_jsonl(str(tmp_path / done.output))
    assert [len(g.completions) for g in kept] == [1] * 6
    mean = sum(len(g.completions[0].text.encode()) for g in kept) / 6
    assert done.metrics["best_score"] == pytest.approx(mean)
    assert done.metrics["best_score"] > done.metrics["score"]


def test_n_1_is_the_policy_and_more_samples_never_score_less(model: Path, tmp_path: Path) -> None:
    """The first samples of n = 4 are those of n = 1, so each prompt's best can only rise."""
    one, four = sample(model, tmp_path / "1", 1), sample(model, tmp_path / "4", 4)
    assert one.metrics["best_score"] == one.metrics["score"]
    assert four.metrics["best_score"] >= one.metrics["best_score"]


def test_what_is_kept_can_be_imitated(model: Path, tmp_path: Path) -> None:
    sample(model, tmp_path / "best", 2)
    options = [
        "--data.path",
        str(tmp_path / "best" / "groups.jsonl"),
        "--loop.steps",
        "1",
        "--loop.batch",
        "2",
    ]
    layer = configuration.parse_overrides([*options, "--model.path", str(model)])
    done = run_stage(single_stage("sft", layer, tmp_path / "sft"))
    assert done.metrics["loss/nll"] > 0
