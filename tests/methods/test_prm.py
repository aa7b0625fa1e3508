"""Process reward models: what they learn of toy steps, and their folder as a judge."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eval_stubs import tiny_model
from trueup.annotate.logprobs import measure
from trueup.engine.groups import Group
from trueup.engine.loop import fit
from trueup.engine.method import Handles, Parts
from trueup.judges.open import open_judge
from trueup.judges.stepwise import StepwiseJudge
from trueup.lab.datasets import solutions
from trueup.methods import prm
from trueup.models.load import save
from trueup.runs.one_stage import single_stage
from trueup.runs.recipe import run_stage
from trueup.runs.shipped import recipe_path
from trueup.settings import config as configuration
from trueup.settings.blocks import LoopSettings
from trueup.testing.toys import spelled, tiny_network, toy_groups
from trueup.update.adamw import AdamW


def told(group: Group) -> Group:
    """The toy group whose steps are right where their last token is even."""
    steps = [
        [{"text": s["text"], "label": int(s["text"][-1]) % 2 == 0} for s in row]
        for row in group.meta["steps"]
    ]
    return replace(group, meta={"steps": steps})


@pytest.mark.parametrize("seed", [1, 2])
def test_toy_steps_are_learned(seed: int) -> None:
    """From log 2 and chance to nine in ten of the held-out steps."""
    parts = Parts(
        groups=[told(g) for g in toy_groups(60, seed=seed)],
        held_out=[told(g) for g in toy_groups(20, seed=seed + 10)],
        decode=spelled,
        stop_ids=(0,),
    )
    config = prm.Config(loop=LoopSettings(batch=20), update=AdamW(lr=2e-2))
    method = prm.build(config, parts)
    noted: list[float] = []
    handles = Handles(networks={"reward": tiny_network(("values",), seed=seed)}, seed=seed)
    fit(
        method,
        handles,
        num_steps=40,
        groups_per_step=20,
        progressed=lambda _, metrics: noted.append(metrics["loss"]),
    )
    assert noted[0] == pytest.approx(np.log(2), abs=1e-6)
    assert method.held_out is not None
    held_out = method.held_out(0, handles)
    labels = np.concatenate([c.columns["step_label"] for g in held_out for c in g.completions])
    said = measure(held_out, "reward", "values", handles).numpy() > 0
    assert 0.3 < labels.mean() < 0.7
    assert (said == (labels > 0.5)).mean() > 0.9


def test_the_lab_judges_claims_one_by_one() -> None:
    groups = solutions(200)
    labels = [step["label"] for g in groups for step in g.meta["steps"][0]]
    assert 0.4 < np.mean(labels) < 0.6
    for group in groups:
        assert group.completions[0].text.split("\n") == [s["text"] for s in group.meta["steps"][0]]
    assert [g.completions[0].text for g in solutions(50)] == [g.completions[0].text for g in groups[:50]]


def test_the_folder_judges_the_completions_of_a_policy(tmp_path: Path) -> None:
    save(tiny_model(), tmp_path / "model")
    layer = configuration.parse_overrides(["--model.path", str(tmp_path / "model")])
    stage = single_stage(str(recipe_path("tiny-prm")), layer, tmp_path / "prm")
    folder = stage.folder / run_stage(stage).output
    judge = open_judge(f"{folder}?score=min")
    assert isinstance(judge, StepwiseJudge)
    groups = solutions(3)
    steps, scores = judge.steps(groups), judge(groups)
    assert [len(row[0]) for row in steps] == [len(g.meta["steps"][0]) for g in groups]
    assert scores == [[min(row[0])] for row in steps]
    options = ["--model.path", str(tmp_path / "model"), "--judge", f"{folder}?score=last"]
    best = single_stage(
        str(recipe_path("tiny-grpo")), configuration.parse_overrides(options), tmp_path / "grpo"
    )
    assert 0 < run_stage(best).metrics["score"] < 1
