"""The reward model's losses and outputs, and pretraining before it, trained from their own files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import trueup
from eval_stubs import tiny_model
from trueup.engine.groups import write_jsonl
from trueup.engine.method import Handles, Parts
from trueup.errors import TrueupError
from trueup.judges.open import open_judge
from trueup.lab import comparisons, demonstrations
from trueup.methods import pmp, reward_model
from trueup.models.load import save
from trueup.settings import config as configuration
from trueup.settings import discover
from trueup.testing import check_method, tiny_config
from trueup.testing.toys import toy_groups


@pytest.mark.parametrize(
    "settings",
    [
        {"loss": "choice", "lm_weight": 0.5, "normalise": reward_model.Normalise(on="samples")},
        {"loss": "plackett_luce", "normalise": reward_model.Normalise(to="mean")},
    ],
    ids=["choice", "plackett_luce"],
)
def test_other_losses_repeat_and_resume_to_the_bit(settings: dict[str, Any], tmp_path: Path) -> None:
    module = discover.find("reward_model")
    check_method(module, tmp_path, config=replace(tiny_config(module), **settings))


def test_pretraining_with_language_modelling_repeats_and_resumes_to_the_bit(tmp_path: Path) -> None:
    module = discover.find("pmp")
    check_method(module, tmp_path, config=replace(tiny_config(module), lm_weight=0.5))


def test_settings_of_another_loss_are_refused() -> None:
    with pytest.raises(TrueupError, match=r"E715.*choice"):
        configuration.build(reward_model.Config, {"loss": "choice", "margin": 0.5})
    with pytest.raises(TrueupError, match=r"E715.*plackett_luce"):
        configuration.build(reward_model.Config, {"loss": "plackett_luce", "center": 0.1})
    table = configuration.build(reward_model.Config, configuration.parse_overrides(["--margin", "[0, 0.5]"]))
    assert table.margin == (0.0, 0.5)


def test_a_zero_on_demonstrations_needs_some() -> None:
    config = reward_model.Config(normalise=reward_model.Normalise(on="demonstrations"))
    parts = Parts(groups=toy_groups(), held_out=[], decode=str, stop_ids=(0,))
    with pytest.raises(TrueupError, match=r"E604.*normalise\.on"):
        reward_model.build(config, parts)


def test_pairs_may_be_pretrained_on_as_they_are() -> None:
    parts = Parts(groups=toy_groups(), held_out=[], decode=str, stop_ids=(0,))
    source = pmp.build(pmp.Config(binarise=False), parts).source
    drawn = source(0, Handles(networks={}))
    assert {len(group.completions) for group in drawn} == {2, 3, 4}


def test_from_pretraining_to_a_judge_of_several_sources(tmp_path: Path) -> None:
    save(tiny_model(), tmp_path / "base")
    judged = comparisons(48, 0)
    write_jsonl(str(tmp_path / "a.jsonl"), judged[:32])
    write_jsonl(str(tmp_path / "b.jsonl"), judged[32:])
    write_jsonl(str(tmp_path / "shown.jsonl"), demonstrations(12, 0))
    mix = {name: str(tmp_path / f"{name}.jsonl") for name in ("a", "b")}
    short = {"loop": {"steps": 2, "batch": 4}}
    first = trueup.fit(
        "pmp",
        out=tmp_path / "pmp",
        model=tmp_path / "base",
        data={"mix": mix, "held_out": 0.4},
        **short,
    )
    assert {"accuracy/a", "accuracy/b"} <= set(first.metrics)
    second = trueup.fit(
        "reward_model",
        out=tmp_path / "reward",
        model=first,
        data={"mix": {**mix, "shown": str(tmp_path / "shown.jsonl")}, "held_out": 0.4},
        mix_power=0.5,
        normalise={"to": "mean", "on": "demonstrations"},
        **short,
    )
    assert {"accuracy/a", "accuracy/b", "score/mean_before"} <= set(second.metrics)
    assert "accuracy/shown" not in second.metrics
    assert json.loads((tmp_path / "reward" / "data.json").read_text())["rows_in"] == 60
    (scores,) = open_judge(str(second.model))(judged[:1])
    assert len(scores) == len(judged[0].completions)
