"""Claims about RLHF, its distance and its rivals: each on trials with known numbers, both ways."""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from trueup.claims import reproduce
from trueup.claims.experiment import Trial
from trueup.claims.files.best_of_n_law import best_of_n_kl
from trueup.claims.finding import Finding
from trueup.runs.recipe import plan
from trueup.statistics.estimates import best_of_n_kl_bound

Numbers = Mapping[str, Mapping[str, float]]
JITTER = (-1e-3, 0.0, 1e-3)
"Added to every number of the first, second and third seed's trial."


def trials(name: str, measured: Numbers, folder: Path, exams: tuple[str, ...] = ()) -> list[Trial]:
    """The claim's own recipe at three seeds, with `measured` as what its stages wrote."""
    found = reproduce.experiment(name, seeds=(1, 2, 3))
    assert found is not None
    made = []
    for job, off in zip(found.jobs(), JITTER, strict=True):
        stages = {stage.name: stage for stage in plan(job.recipe, folder)}
        for stage, given in measured.items():
            place = stages[stage].folder
            place.mkdir(parents=True)
            values = {key: [[value + off], [value + off]] for key, value in given.items()}
            parts = {"numbers": values, "exams": {key: values.pop(key)[0] for key in exams}}
            (place / "measured.json").write_text(json.dumps(parts))
        made.append(Trial(seed=job.seed, stages=stages))
    return made


def found(name: str, measured: Numbers, folder: Path, exams: tuple[str, ...] = ()) -> Finding:
    module = importlib.import_module(f"trueup.claims.files.{name.replace('-', '_')}")
    return module.measure(trials(name, measured, folder, exams))


def gold(**values: float) -> Numbers:
    return {stage: {"gold": value} for stage, value in values.items()}


HELD = "holds"
NOT = "does not hold here"
CASES: list[tuple[str, Numbers, list[float], str]] = [
    ("rlhf-beats-sft", gold(m_sft=0.4, m_ppo=0.6), [1.0], HELD),
    ("rlhf-beats-sft", gold(m_sft=0.6, m_ppo=0.4), [0.0], NOT),
    (
        "kl-penalty",
        {"m_free": {"kl": 9.0, "gold": 0.3}, "m_pulled": {"kl": 2.0, "gold": 0.5}},
        [math.log(2 / 9), 0.2],
        HELD,
    ),
    (
        "kl-penalty",
        {"m_free": {"kl": 9.0, "gold": 0.5}, "m_pulled": {"kl": 2.0, "gold": 0.3}},
        [math.log(2 / 9), -0.2],
        NOT,
    ),
    (
        "contrastive-steadier",
        gold(m_dpo=0.7, m_dpo_fast=0.6, m_dpo_faster=0.5, m_ppo=0.7, m_ppo_fast=0.4, m_ppo_faster=0.2),
        [0.15 - 0.4],
        HELD,
    ),
    (
        "contrastive-steadier",
        gold(m_dpo=0.7, m_dpo_fast=0.4, m_dpo_faster=0.2, m_ppo=0.7, m_ppo_fast=0.6, m_ppo_faster=0.5),
        [0.4 - 0.15],
        NOT,
    ),
    (
        "contrastive-data-efficient",
        gold(m_sft=0.4, m_dpo=0.7, m_dpo_few=0.65, m_ppo=0.6, m_ppo_few=0.45),
        [0.1],
        HELD,
    ),
    (
        "contrastive-data-efficient",
        gold(m_sft=0.4, m_dpo=0.7, m_dpo_few=0.5, m_ppo=0.6, m_ppo_few=0.55),
        [-0.15],
        NOT,
    ),
    (
        "contrastive-needs-good-data",
        gold(m_sft=0.4, m_dpo=0.7, m_dpo_on_base=0.6, m_dpo_from_base=0.5),
        [0.1, 0.2],
        HELD,
    ),
    (
        "contrastive-needs-good-data",
        gold(m_sft=0.4, m_dpo=0.7, m_dpo_on_base=0.8, m_dpo_from_base=0.5),
        [-0.1, 0.2],
        NOT,
    ),
    (
        "helpful-harmless",
        {
            "m_base": {"helpful": 0.4, "harmless": 0.8},
            "m_helpful": {"helpful": 0.6, "harmless": 0.7},
            "m_harmless": {"helpful": 0.3, "harmless": 0.9},
        },
        [-0.1, -0.1],
        HELD,
    ),
    (
        "helpful-harmless",
        {
            "m_base": {"helpful": 0.4, "harmless": 0.8},
            "m_helpful": {"helpful": 0.6, "harmless": 0.9},
            "m_harmless": {"helpful": 0.3, "harmless": 0.9},
        },
        [0.1, -0.1],
        NOT,
    ),
]


@pytest.mark.parametrize(("name", "measured", "values", "verdict"), CASES)
def test_known_numbers_give_the_known_verdict(
    name: str, measured: Numbers, values: list[float], verdict: str, tmp_path: Path
) -> None:
    finding = found(name, measured, tmp_path)
    assert [effect.value for effect in finding.effects] == pytest.approx(values)
    assert finding.verdict == verdict


@pytest.mark.parametrize(("raft_nats", "verdict"), [(1.4, HELD), (1.6, NOT)])
def test_raft_must_have_both_more_reward_and_less_perplexity(
    raft_nats: float, verdict: str, tmp_path: Path
) -> None:
    """The exam holds log-probabilities: −1.5 a token for PPO."""
    measured = {
        "m_raft": {"proxy": 1.2, "perplexity": -raft_nats, "kl": 1.0},
        "m_ppo": {"proxy": 1.0, "perplexity": -1.5, "kl": 0.5},
    }
    finding = found("raft-against-ppo", measured, tmp_path, ("perplexity",))
    assert [effect.value for effect in finding.effects] == pytest.approx([0.2, raft_nats - 1.5])
    assert finding.verdict == verdict


def log_guard(trial: Trial, stage: str, rows: list[tuple[int, float, float, float]]) -> None:
    """An evaluation a row: its step, gold, share of gold's peak lost, and proxy; and a step of training."""
    place = trial.folder(stage)
    place.mkdir(parents=True, exist_ok=True)
    lines = [{"step": 1, "phase": "train", "score": 0.0}]
    lines += [
        {"step": step, "phase": "eval", "guard/score": gold, "guard/lost": lost, "score": proxy}
        for step, gold, lost, proxy in rows
    ]
    (place / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.parametrize(("end", "verdict"), [(0.3, HELD), (0.6, NOT)])
def test_over_optimisation_needs_gold_to_fall(end: float, verdict: str, tmp_path: Path) -> None:
    measured = {"m_free": {"gold": end, "proxy": 2.0}, "m_guarded": {"gold": 0.5, "proxy": 1.0}}
    made = trials("over-optimisation", measured, tmp_path)
    for trial in made:
        log_guard(trial, "free", [(0, 0.5, 0.0, 0.0), (10, end, 1 - end / 0.5, 2.0)])
    module = importlib.import_module("trueup.claims.files.over_optimisation")
    finding = module.measure(made)
    assert [effect.value for effect in finding.effects] == [1.0, float(end > 0.5)]
    assert finding.verdict == verdict


@pytest.mark.parametrize(("lost", "verdict"), [(0.06, HELD), (0.2, NOT)])
def test_a_guard_is_in_time_while_less_than_a_tenth_is_lost(
    lost: float, verdict: str, tmp_path: Path
) -> None:
    made = trials("guard-in-time", {}, tmp_path)
    for trial, off in zip(made, JITTER, strict=True):
        log_guard(trial, "free", [(0, 0.5, 0.0, 0.0), (80, 0.25, 0.5 + off, 2.0)])
        log_guard(trial, "guarded", [(0, 0.5, 0.0, 0.0), (20, 0.4, lost + off, 1.0)])
    finding = importlib.import_module("trueup.claims.files.guard_in_time").measure(made)
    assert [effect.value for effect in finding.effects] == pytest.approx([lost, 0.5])
    assert finding.verdict == verdict


def test_the_kl_of_best_of_2_by_hand() -> None:
    """Of ¼ and ¾ the worse is chosen with 1/16: KL = 1/16 log ¼ + 15/16 log 5/4; of one atom it is 0."""
    by_hand = math.log(1 / 4) / 16 + 15 / 16 * math.log(5 / 4)
    assert best_of_n_kl(np.array([0.25, 0.75]), 2) == pytest.approx(by_hand, abs=1e-12)
    assert best_of_n_kl(np.array([1.0]), 16) == pytest.approx(0.0, abs=1e-12)
    assert best_of_n_kl(np.full(1_000_000, 1e-6), 16) == pytest.approx(best_of_n_kl_bound(16), abs=3e-4)


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, HELD), (0.5, NOT)])
def test_best_of_n_must_gain_what_its_samples_foretell(factor: float, verdict: str, tmp_path: Path) -> None:
    """The best of 4 among 16 scores 0 to 15 has rank 4 · 17/5 − 1 = 12.6 in expectation; one has 7.5."""
    made = trials("best-of-n-law", {}, tmp_path)
    for trial, off in zip(made, JITTER, strict=True):
        rows = [[float(i) for i in range(16)]] * 2
        real = [[7.5 + factor * 5.1 + off]] * 2
        for stage, numbers in (("samples", rows), ("best_of_4", real)):
            trial.folder(stage).mkdir(parents=True)
            text = json.dumps({"numbers": {"proxy": numbers}, "exams": {}})
            (trial.folder(stage) / "measured.json").write_text(text)
    finding = importlib.import_module("trueup.claims.files.best_of_n_law").measure(made)
    assert finding.effects[2].value == pytest.approx(factor)
    assert finding.effects[0].value < 0, "sixteen atoms are no continuum"
    assert finding.verdict == verdict
