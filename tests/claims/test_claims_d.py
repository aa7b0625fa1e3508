"""Claims about alignment without labels, each on trials with known numbers, both ways."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from trueup.claims import reproduce
from trueup.claims.experiment import Trial
from trueup.claims.files.rlaif_plane import HARM, POLICIES, SAME, kinds
from trueup.claims.finding import Finding
from trueup.runs.recipe import plan

JITTER = (-1e-3, 0.0, 1e-3)
"Added to every number of the first, second and third seed's trial."
HELD = "holds"
NOT = "does not hold here"


def trials(name: str, folder: Path) -> list[Trial]:
    """The claim's own recipe at three seeds; nothing is written yet."""
    found = reproduce.experiment(name, seeds=(1, 2, 3))
    assert found is not None
    return [
        Trial(seed=job.seed, stages={stage.name: stage for stage in plan(job.recipe, folder)})
        for job in found.jobs()
    ]


def done(trial: Trial, stage: str, metrics: Mapping[str, float]) -> None:
    """A finished stage that handed on these metrics."""
    trial.folder(stage).mkdir(parents=True)
    row = {"output": "groups.jsonl", "publish": [], "metrics": dict(metrics), "cost": {}, "method": ""}
    (trial.folder(stage) / "DONE.json").write_text(json.dumps(row))


def measured(
    trial: Trial, stage: str, numbers: Mapping[str, list[float]], exams: Mapping[str, list[float]]
) -> None:
    """What a `measure` stage wrote, one sample a prompt."""
    trial.folder(stage).mkdir(parents=True)
    rows = {name: [[value] for value in values] for name, values in numbers.items()}
    (trial.folder(stage) / "measured.json").write_text(json.dumps({"numbers": rows, "exams": dict(exams)}))


def measure(name: str, folder: Path, made: list[Trial]) -> Finding:
    return importlib.import_module(f"trueup.claims.files.{name}").measure(made)


@pytest.mark.parametrize(
    ("after", "verdict"), [((0.6, 0.8, 0.85, 0.9, 0.95), HELD), ((0.6, 0.9, 0.9, 0.9, 0.9), NOT)]
)
def test_revisions_must_help_at_once_and_again(
    after: tuple[float, ...], verdict: str, tmp_path: Path
) -> None:
    made = trials("critique-revision", tmp_path)
    for trial, off in zip(made, JITTER, strict=True):
        parts = {f"{part}/{s}": value for s, value in enumerate(after) for part in ("helpful", "evasive")}
        done(trial, "revisions", parts | {f"harmless/{s}": value + s * off for s, value in enumerate(after)})
        alone = {f"harmless/{s}": value for s, value in enumerate((0.6, 0.55, 0.5, 0.45, 0.4))}
        done(trial, "base_revisions", alone | {f"helpful/{s}": 0.1 for s in range(5)})
        done(trial, "requests", {"prompts": 628})
        done(trial, "base_critic", {"critique/names_harm": 0.25})
        done(trial, "taught_critic", {"critique/names_harm": 0.75})
    finding = measure("critique_revision", tmp_path, made)
    assert [e.value for e in finding.effects] == pytest.approx([after[1] - after[0], after[4] - after[1]])
    assert finding.verdict == verdict
    assert "25% of harmful answers (75% after them)" in finding.setting and "0.550, 0.500" in finding.setting


@pytest.mark.parametrize(("small", "verdict"), [(0.1, HELD), (-0.1, NOT)])
def test_a_critique_must_help_the_small_critic(small: float, verdict: str, tmp_path: Path) -> None:
    made = trials("critique-helps-small", tmp_path)
    for trial, off in zip(made, JITTER, strict=True):
        done(trial, "requests", {"prompts": 628})
        for who, gain in (("base", 0.5), ("small", small + off), ("large", -0.5)):
            done(trial, f"critique_{who}", {"harmless/1": 0.5 + gain})
            done(trial, f"direct_{who}", {"harmless/1": 0.5})
    finding = measure("critique_helps_small", tmp_path, made)
    assert [e.value for e in finding.effects] == pytest.approx([small])
    assert finding.verdict == verdict


@pytest.mark.parametrize(("helpful", "verdict"), [(0.5, HELD), (0.5 - 2 * SAME, NOT)])
def test_the_plane_counts_help_on_benign_and_harm_on_harmful_requests(
    helpful: float, verdict: str, tmp_path: Path
) -> None:
    made = trials("rlaif-plane", tmp_path)
    harm = [kind in HARM for kind in kinds(60)]
    assert 0 < sum(harm) < 60
    for trial, off in zip(made, JITTER, strict=True):
        done(trial, "labels", {"agreement/harmless": 0.9})
        done(trial, "requests", {"prompts": 628})
        for stage in POLICIES.values():
            ai = stage == "ppo"
            given = {
                "helpful": [0.0 if bad else (helpful if ai else 0.5) + off for bad in harm],
                "harmless": [(0.9 if ai else 0.8) + off if bad else 0.0 for bad in harm],
            }
            measured(trial, f"m_{stage}", given, {})
    finding = measure("rlaif_plane", tmp_path, made)
    assert [e.value for e in finding.effects] == pytest.approx([0.1, helpful - 0.5])
    assert finding.verdict == verdict


@pytest.mark.parametrize(("engraved", "verdict"), [(0.6, HELD), (0.3, NOT)])
def test_self_align_must_beat_its_base_in_the_truth_exam(
    engraved: float, verdict: str, tmp_path: Path
) -> None:
    made = trials("self-align-truth", tmp_path)
    for trial, off in zip(made, JITTER, strict=True):
        for stage, share in (("base", 0.4), ("prompted", 0.5), ("engraved", engraved + off), ("cloned", 0.5)):
            measured(trial, f"measure_{stage}", {}, {"truth_mc1": [share]})
    finding = measure("self_align_truth", tmp_path, made)
    assert [e.value for e in finding.effects] == pytest.approx([engraved - 0.4])
    assert finding.verdict == verdict
    assert f"{engraved - 0.5:+.3f}" in finding.setting
