"""A run directory is read as it is: whole, in parts, damaged."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from fake_run import write_fake_run
from trueup.errors import TrueupError
from trueup.reports.record import Interval, read_run
from trueup.reports.stages import read_stages, series
from trueup.statistics.estimates import mean_ci


def test_whole_run(tmp_path: Path) -> None:
    run = read_run(write_fake_run(tmp_path / "run"))
    assert run.missing == {}
    assert [p.name for p in run.policies] == ["base", "base_hhh", "sft", "best_of_16", "dpo", "ppo"]
    assert run.policies[3].kl_kind == "bound"
    assert run.policies[4].win_rate is not None and run.policies[4].win_rate.low is None
    stages = {stage.name: stage for stage in run.stages}
    assert stages["sft"].settings["update.rate"] == "0.0003"
    assert set(stages) == {"sft", "reward", "dpo", "ppo"} and all(s.curves for s in stages.values())
    assert len(stages["ppo"].curves["kl"]) == 120


def test_empty_run_names_what_is_missing_and_makes_nothing_up(tmp_path: Path) -> None:
    run = read_run(tmp_path)
    assert set(run.missing) == {"policies", "tax", "frontier", "curves", "samples", "settings"}
    assert run.policies == () and run.stages == () and run.seed is None


def test_no_directory(tmp_path: Path) -> None:
    with pytest.raises(TrueupError) as caught:
        read_run(tmp_path / "nowhere")
    assert caught.value.code == "E801"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("summary.json", "{"),
        ("summary.json", '{"policies": {"sft": {"gold": NaN}}}'),
        ("summary.json", '{"policies": {"sft": {"gold": "high"}}}'),
        ("summary.json", '{"policies": {"sft": {"gold": {"mean": 1, "ci95": [0]}}}}'),
        ("summary.json", '{"policies": ["sft"]}'),
        ("summary.json", "[]"),
        ("summary.json", '{"policies": {"sft": {"helpful": true}}}'),
        ("frontier.json", '[{"policy": "ppo", "step": 1}]'),
        ("frontier.json", "[3]"),
        ("frontier.json", '{"policy": "ppo"}'),
        ("samples.json", '[{"prompt": ["hi"]}]'),
        ("samples.json", '[{"prompt": "hi"}]'),
        ("samples.json", "[" * 100_000),
        ("summary.json", '{"num_prompts": "many"}'),
        ("summary.json", '{"policies": {"sft": {"gold": 1' + "0" * 400 + "}}}"),
    ],
)
def test_wrong_files_are_named_errors(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(TrueupError) as caught:
        read_run(tmp_path)
    assert name.split(".")[0] in caught.value.where


def _stage(folder: Path, settings: str, value: float) -> None:
    folder.mkdir(parents=True)
    (folder / "config.resolved.yaml").write_text(settings)
    (folder / "metrics.jsonl").write_text(json.dumps({"step": 1, "phase": "train", "loss": value}) + "\n")
    timing = {"step": 1, "tokens_trained": 10, "tokens_sampled": 0, "seconds": 2.5, "peak_mib": 7.0}
    (folder / "timings.jsonl").write_text(json.dumps(timing) + "\n")


def test_stages_come_in_recipe_order_and_from_the_current_folder(tmp_path: Path) -> None:
    (tmp_path / "recipe.resolved.yaml").write_text("sft:\n  lr: 2\nppo:\n  lr: 3\n")
    _stage(tmp_path / "stages" / "ppo-0123456789", "lr: 3\n", 30.0)
    _stage(tmp_path / "stages" / "sft-aaaaaaaaaa", "lr: 2\n", 20.0)
    _stage(tmp_path / "stages" / "sft-bbbbbbbbbb", "lr: 1\n", 10.0)
    _stage(tmp_path / "stages" / "dropped-cccccccccc", "lr: 9\n", 90.0)
    os.utime(tmp_path / "stages" / "sft-aaaaaaaaaa", (1, 1))  # older, but what the recipe says
    stages = read_stages(tmp_path)
    assert [stage.name for stage in stages] == ["sft", "ppo"]
    assert stages[0].curves == {"loss": [(1.0, 20.0)]}
    sft, ppo = read_run(tmp_path).stages
    assert sft.cost == {"tokens_trained": 10, "tokens_sampled": 0, "seconds": 2.5, "peak_mib": 7.0}
    assert ppo.settings == {"lr": "3"}


def test_a_single_training_run_is_its_own_stage(tmp_path: Path) -> None:
    _stage(tmp_path / "alone", "lr: 1\n", 1.0)
    assert [stage.name for stage in read_stages(tmp_path / "alone")] == ["alone"]


def test_settings_tell_no_path_outside_the_run(tmp_path: Path) -> None:
    _stage(tmp_path / "stages" / "ppo-0123456789", f"model: {tmp_path}/stages/sft/model\n", 1.0)
    assert read_run(tmp_path).stages[0].settings["model"] == "RUN/stages/sft/model"


def test_series_reads_phases_words_and_nested_metrics() -> None:
    rows = [
        {"step": 2, "phase": "train", "loss": 1.0},
        {"step": 1, "loss": "nan", "note": "text", "flag": True},
        {"step": 1, "phase": "eval", "metrics": {"loss": 3}},
    ]
    found = series(rows)
    assert set(found) == {"loss", "eval/loss"}
    assert found["eval/loss"] == [(1.0, 3.0)]
    assert [step for step, _ in found["loss"]] == [1.0, 2.0]
    assert found["loss"][0][1] != found["loss"][0][1]


def test_estimates_are_read_as_they_are_written(tmp_path: Path) -> None:
    estimate = mean_ci([1.0, 2.0, 3.0, 4.0])
    row = {"gold": estimate.to_json(), "tax": {"sums": estimate.to_json()}, "kl": mean_ci([1.0]).to_json()}
    (tmp_path / "summary.json").write_text(json.dumps({"policies": {"ppo": row}}))
    (policy,) = read_run(tmp_path).policies
    assert policy.gold == Interval(estimate.mean, estimate.low, estimate.high)
    assert policy.tax["sums"] == policy.gold
    assert policy.kl == Interval(1.0)
