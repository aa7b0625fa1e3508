"""Rankers, sizes, mixtures, labels, groups, confidence: on made-up stages each gives the numbers by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from claims.made_stages import Wrote, found_of, noise
from trueup.claims import reproduce
from trueup.claims.files import elo_along_rl, scaling_floor, soup_three, stated_confidence
from trueup.claims.files.scaling_laws import Point
from trueup.runs.recipe import plan

HELD, NOT, NONE = "holds", "does not hold here", "no effect beyond ±X"
NEW = (
    *("abstaining", "clamped-labels", "code-best-of-k", "disguised-requests", "elo-along-rl"),
    *("group-reward-models", "helpful-and-summaries", "imitation-data", "imitation-noise"),
    *("imitation-size-pairs", "imitation-size-rankings", "majority-values", "prompt-overrides"),
    *(
        "prompt-variance",
        "raft-temperature",
        "reasoned-labels",
        "rrhf-rankers",
        "scaling-floor",
        "soup-three",
    ),
    *("stated-confidence", "weak-to-strong"),
)


def accuracies(steady: Mapping[str, float], varied: Mapping[str, float]) -> Wrote:
    """Accuracies by stage, the second ones with noise."""

    def wrote(stage: str, seed: int) -> Mapping[str, Any]:
        if stage in varied:
            return {"metrics": {"accuracy": varied[stage] + noise(seed)}}
        return {"metrics": {"accuracy": steady.get(stage, 0.5), "parameters": PARAMETERS.get(stage, 1.0)}}

    return wrote


SIZES = ("micro", "tiny", "small", "base", "medium")
PARAMETERS = {f"{size}_600k": 10.0 ** (4 + k) for k, size in enumerate(SIZES)}


def by_size(prefix: str, slope: float) -> Wrote:
    """A gap that rises by `slope` with every rung, each ten times as large as the one before."""
    steady = {f"{prefix}by_imitation_{size}": 0.7 for size in SIZES}
    varied = {f"{prefix}by_reward_{size}": 0.6 + slope * k for k, size in enumerate(SIZES)}
    return accuracies(steady, varied)


def numbers(**values: Mapping[str, float]) -> Wrote:
    """Means of named numbers by stage, each with noise but for the first stage's."""
    first = next(iter(values))

    def wrote(stage: str, seed: int) -> Mapping[str, Any]:
        off = 0.0 if stage == first else noise(seed)
        return {
            "numbers": {name: [[v + off, v + off]] for name, v in values.get(stage, {}).items()},
            "metrics": {"label/confidence": 0.8},
        }

    return wrote


def golds(**values: float) -> Wrote:
    return numbers(**{stage: {"gold": v, "harmless": v} for stage, v in values.items()})


def overrides(leave: float) -> Wrote:
    names = ("rules", "said", "opposite", "rude")
    keep = {"m_follow": 0.4, **{f"m_keep_{name}": 0.4 for name in names}}
    return golds(**keep, m_ignore=leave, **{f"m_leave_{name}": leave for name in names})


def prompts(*lifts: float) -> Wrote:
    return golds(bare=0.3, **{f"prompt_{k + 1}": 0.3 + lift for k, lift in enumerate(lifts)})


def raft(distinct: float, reward: float) -> Wrote:
    cold = {"distinct": 0.5, "reward": 1.0}
    return numbers(d_07=cold, d_10=cold, d_13={"distinct": distinct, "reward": reward})


def labelled(reasoned: float) -> Wrote:
    def wrote(stage: str, seed: int) -> Mapping[str, Any]:
        agreement = reasoned + noise(seed) if stage == "reasoned" else 0.8
        return {"metrics": {"agreement/harmless": agreement, "label/confidence": 0.6, "prompts": 576.0}}

    return wrote


def disguises(harmless: float) -> Wrote:
    names = ("sentence", "exam", "friend", "program", "summary")
    return numbers(to_plain={"harmless": 0.95}, **{f"to_{n}": {"harmless": harmless} for n in names})


def answers(right: Sequence[float], stated: Sequence[float], error: float) -> Wrote:
    """Ten answers; noise goes to the confidence, which changes no order, and to the calibration error."""

    def wrote(stage: str, seed: int) -> Mapping[str, Any]:
        row = {
            "right": list(right),
            "stated": [p + noise(seed) for p in stated],
            "mean_logprob": list(stated),
        }
        return {"metrics": {"ece": error + noise(seed), "right": 0.5}, "certainty.json": row}

    return wrote


SURE = (0.9,) * 5 + (0.2,) * 5
RIGHT = (1.0, 1.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0)
"Four of the five sure ones are right, and one of the others: half of all."


def soup(uniform: float) -> Wrote:
    """Experts with 1 of their own reward and 0 of the others; the uniform soup with as much of each."""

    def row(kind: str, weights: Sequence[float], values: Sequence[float]) -> dict[str, Any]:
        rewards = {name: {"mean": v} for name, v in zip("abc", values, strict=True)}
        return {"kind": kind, "weights": weights, "rewards": rewards}

    def wrote(stage: str, seed: int) -> Mapping[str, Any]:
        own = [[float(k == i) for k in range(3)] for i in range(3)]
        third = [1 / 3] * 3
        rows = [row("start", [], [0.0] * 3), *(row("soup", one, one) for one in own)]
        rows += [row("soup", third, [uniform + noise(seed)] * 3), row("soup", [2 / 3, 1 / 3, 0.0], [9.0] * 3)]
        return {"front.json": {"rewards": list("abc"), "experts": list("xyz"), "policies": rows}}

    return wrote


def programs(by_reward: bool) -> Wrote:
    """Eight of sixteen programs are right; one ranker puts them first and the other last."""
    right = [1.0] * 8 + [0.5] * 8

    def wrote(stage: str, seed: int) -> Mapping[str, Any]:
        best, worst = list(range(16))[::-1], list(range(16))
        pair = (best, worst) if by_reward else (worst, best)
        # At the second seed one program of another prompt is right, whichever is picked.
        rows = [right, [1.0 if seed == 2 else 0.5] * 16]
        scores = {"reward": [pair[0]] * 2, "mean_logprob": [pair[1]] * 2}
        return {"numbers": {"helpful": rows, **scores}}

    return wrote


CASES: list[tuple[str, Wrote, list[float], str]] = [
    (
        "rrhf-rankers",
        accuracies({"by_base": 0.5, "by_sft": 0.55, "by_ppo": 0.6}, {"by_rrhf": 0.7}),
        [0.2, 0.15, 0.1],
        HELD,
    ),
    (
        "rrhf-rankers",
        accuracies({"by_base": 0.5, "by_sft": 0.55, "by_ppo": 0.7}, {"by_rrhf": 0.7}),
        [0.2, 0.15, 0.0],
        NONE,
    ),
    ("imitation-size-pairs", by_size("", 0.01), [0.01], HELD),
    ("imitation-size-pairs", by_size("", 0.05), [0.05], NOT),
    ("imitation-size-rankings", by_size("ranked_", 0.02), [0.02], HELD),
    ("imitation-size-rankings", by_size("ranked_", -0.02), [-0.02], NOT),
    (
        "imitation-noise",
        accuracies(
            {"by_reward_crowd": 0.6, "by_imitation_crowd": 0.7, "by_imitation_exact": 0.75},
            {"by_reward_exact": 0.74},
        ),
        [-0.01 - -0.1],
        HELD,
    ),
    (
        "imitation-noise",
        accuracies(
            {"by_reward_crowd": 0.6, "by_imitation_crowd": 0.7, "by_imitation_exact": 0.8},
            {"by_reward_exact": 0.7},
        ),
        [0.0],
        NONE,
    ),
    (
        "imitation-data",
        accuracies(
            {"by_imitation_250": 0.6, "by_imitation_1000": 0.6, "by_imitation_4000": 0.6},
            {"by_reward_250": 0.5, "by_reward_1000": 0.56, "by_reward_4000": 0.62},
        ),
        [0.06 / math.log10(4)],
        HELD,
    ),
    (
        "helpful-and-summaries",
        accuracies(
            {"alone_posts": 0.8, "alone_others": 0.7},
            {"mixed_posts": 0.79, "mixed_others": 0.75},
        ),
        [-0.01, 0.05],
        HELD,
    ),
    (
        "helpful-and-summaries",
        accuracies(
            {"alone_posts": 0.8, "alone_others": 0.7},
            {"mixed_posts": 0.7, "mixed_others": 0.75},
        ),
        [-0.1, 0.05],
        NOT,
    ),
    (
        "group-reward-models",
        accuracies(
            {"both_brief": 0.6, "both_thorough": 0.6},
            {"own_brief": 0.7, "own_thorough": 0.62},
        ),
        [0.06],
        HELD,
    ),
    (
        "majority-values",
        accuracies(
            {"both_brief": 0.6, "both_thorough": 0.6},
            {"nine_to_one_brief": 0.5, "nine_to_one_thorough": 0.65},
        ),
        [-0.1, 0.05],
        HELD,
    ),
    (
        "majority-values",
        accuracies(
            {"both_brief": 0.6, "both_thorough": 0.6},
            {"nine_to_one_brief": 0.6, "nine_to_one_thorough": 0.65},
        ),
        [0.0, 0.05],
        NONE,
    ),
    (
        "weak-to-strong",
        accuracies({"by_teacher": 0.6, "by_ceiling": 0.7}, {"by_student": 0.65}),
        [0.05],
        HELD,
    ),
    (
        "weak-to-strong",
        accuracies({"by_teacher": 0.6, "by_ceiling": 0.7}, {"by_student": 0.58}),
        [-0.02],
        NOT,
    ),
    ("code-best-of-k", programs(by_reward=True), [0.5 - 1 / 12870 / 2], HELD),
    ("code-best-of-k", programs(by_reward=False), [-0.5 + 1 / 12870 / 2], NOT),
    ("raft-temperature", raft(0.6, 0.95), [0.1, -0.05], HELD),
    ("raft-temperature", raft(0.6, 0.7), [0.1, -0.3], NOT),
    ("raft-temperature", raft(0.5, 1.0), [0.0, 0.0], NONE),
    ("soup-three", soup(0.5), [0.5 - 1 / 3], HELD),
    ("soup-three", soup(0.2), [0.2 - 1 / 3], NOT),
    ("reasoned-labels", labelled(0.9), [0.1], HELD),
    ("reasoned-labels", labelled(0.6), [-0.2], NOT),
    ("clamped-labels", golds(m_unclamped=0.4, m_clamped=0.5), [0.1], HELD),
    ("clamped-labels", golds(m_unclamped=0.4, m_clamped=0.4), [0.0], NONE),
    ("prompt-overrides", overrides(0.3), [-0.1], HELD),
    ("prompt-overrides", overrides(0.4), [0.0], NOT),
    ("prompt-variance", prompts(0.1, 0.1, 0.1, 0.1, 0.15), [math.sqrt(0.0005) / 0.11], HELD),
    ("prompt-variance", prompts(0.0, 0.1, 0.0, 0.1, 0.3), [math.sqrt(0.015) / 0.1], NOT),
    ("disguised-requests", disguises(0.7), [0.25], HELD),
    ("disguised-requests", disguises(0.99), [-0.04], NOT),
    ("stated-confidence", answers(RIGHT, SURE, 0.05), [0.05, 0.6], HELD),
    ("stated-confidence", answers(RIGHT, SURE, 0.3), [0.3, 0.6], NOT),
    ("abstaining", answers(RIGHT, SURE, 0.05), [0.3, 0.5], HELD),
    ("abstaining", answers(RIGHT, (0.9,) * 1 + (0.2,) * 9, 0.05), [0.5, 0.1], NOT),
]


@pytest.mark.parametrize(("name", "wrote", "values", "verdict"), CASES)
def test_known_numbers_give_the_known_verdict(
    name: str, wrote: Wrote, values: list[float], verdict: str, tmp_path: Path
) -> None:
    found = found_of(name, tmp_path, wrote)
    assert [effect.value for effect in found.effects] == pytest.approx(values, abs=2e-4)
    assert found.verdict == verdict, found.effects
    assert found.figure.startswith("<svg") and "nan" not in found.setting


def legs(harmless: float) -> Wrote:
    """After each leg more helpful on every prompt but one; on one or two more, or less, harmless."""

    def wrote(stage: str, seed: int) -> Mapping[str, Any]:
        leg = int(stage[-1]) if stage.startswith("m_leg") else 0
        helpful = [[0.5 + 0.1 * leg]] * 19 + [[0.5 - 0.1 * leg]]
        safe = [[harmless if leg else 0.5]] * (seed % 2 + 1) + [[0.5]] * (18 - seed % 2)
        return {"numbers": {"helpful": helpful, "harmless": safe}}

    return wrote


def test_elo_is_of_the_odds_against_the_start(tmp_path: Path) -> None:
    """19 of 20 won is 400 log₁₀ 19 = 511.5; of 19 one or two won, the others tied, (9.5 + ½ or 1) / 19."""
    found = found_of("elo-along-rl", tmp_path, legs(0.6))
    helpful, harmless = found.effects
    assert helpful.value == pytest.approx(400 * math.log10(19)) and helpful.verdict == HELD
    odds = [(0.5 + k / 38) / (0.5 - k / 38) for k in (2, 1, 2)]
    assert harmless.by_seed == pytest.approx([400 * math.log10(x) for x in odds])
    assert found_of("elo-along-rl", tmp_path / "less", legs(0.4)).verdict == NOT
    one, none = np.ones((10, 1)), np.zeros((10, 1))
    assert elo_along_rl.elo(one, none) == pytest.approx(400 * math.log10(19)), "of ten at most 9½ are won"


LAW = (math.log(0.3), 2.0, 3.0, 0.4, 0.5)


def scales(bend: float, law: Sequence[float] = LAW) -> Wrote:
    """Losses by the law, those of one size off by a share."""

    def wrote(stage: str, seed: int) -> Mapping[str, Any]:
        size, tokens = stage.split("_")
        n = 10 ** (4.7 + 0.4 * scaling_floor.SIZES.index(size))
        d = 1e3 * int(tokens[:-1])
        loss = scaling_floor.predicted(np.array(law), np.array([n]), np.array([d]))[0]
        loss *= 1 + bend * (size == "base") + noise(seed) / 10
        return {"scale.json": {"parameters": n, "tokens": d, "held_out_nll": float(loss)}}

    return wrote


def test_the_law_with_a_floor_is_found_again(tmp_path: Path) -> None:
    law = np.array(LAW)
    points = []
    for n in np.logspace(4.7, 6.8, 6):
        for d in (1.5e5, 3e5, 6e5):
            loss = scaling_floor.predicted(law, np.array([n]), np.array([d]))[0]
            points.append(Point(float(n), d, float(loss)))
    assert scaling_floor.fit(points) == pytest.approx(law, rel=2e-3)
    found = found_of("scaling-floor", tmp_path, scales(0.0))
    assert found.verdict == HELD and found.effects[1].value == pytest.approx(0.4, abs=0.02)
    assert found.effects[0].value < 1e-3 and "0.30" in found.setting
    assert found_of("scaling-floor", tmp_path / "bent", scales(0.3)).verdict == NOT


def test_parts_of_the_new_claims_by_hand() -> None:
    rows = soup_three.table(soup(0.5)("soup_of_three", 2)["front.json"])
    assert list(rows) == ["SFT", "expert x", "expert y", "expert z", "uniform soup"]
    assert rows["expert y"].tolist() == [0, 1, 0]
    row = {"stated": [0.1, 0.9, 0.2, 0.8, 0.3], "right": [0.0, 1.0, 0.0, 1.0, 1.0]}
    assert stated_confidence.reliability(row)[0] == (0.1, 0.0)
    assert stated_confidence.split_at_median(*map(np.array, row.values())) == pytest.approx(1.0)


@pytest.mark.parametrize("name", NEW)
def test_every_new_claim_states_its_margin_and_cost_and_can_be_planned(name: str, tmp_path: Path) -> None:
    said = reproduce.about(name)
    assert said["margin"] > 0 and 0 < said["minutes"] <= 20
    runs = reproduce.experiment(name)
    assert runs is not None and 3 <= len(runs.seeds) <= 5
    for job in runs.jobs()[:1]:
        assert plan(job.recipe, tmp_path)


def test_there_are_more_than_48_claims() -> None:
    assert len(reproduce.claims()) >= 48 and set(NEW) <= set(reproduce.claims())
