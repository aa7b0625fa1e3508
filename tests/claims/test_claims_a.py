"""Prompting, distillation, ranking, scaling: recipes plan, and known numbers give the verdict they ask."""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from trueup.claims.experiment import Trial
from trueup.claims.files import prompt_override, scaling_laws
from trueup.claims.finding import Finding
from trueup.claims.reproduce import experiment
from trueup.runs.recipe import Recipe, Stage, plan, run_stage

Made = Callable[[str, int], Mapping[str, Any]]
"What a stage of a seed is said to have found: `gold`, `toxic`, an exam, `accuracy`, a loss."


def fabricated(name: str, folder: Path, made: Made) -> Finding:
    """What the claim finds where every stage of its recipe reports what `made` says."""
    runs = experiment(name)
    assert runs is not None
    trials = []
    for job in runs.jobs():
        stages = {stage.name: stage for stage in plan(job.recipe, folder)}
        for stage in stages.values():
            _write(stage, made(stage.name, job.seed))
        trials.append(Trial(seed=job.seed, stages=stages))
    module = importlib.import_module(f"trueup.claims.files.{name.replace('-', '_')}")
    return module.measure(trials)


def _write(stage: Stage, found: Mapping[str, Any]) -> None:
    stage.folder.mkdir(parents=True, exist_ok=True)
    numbers = {key: [[found[key]]] for key in ("gold", "toxic") if key in found}
    exams = {key: found[key] for key in ("last_word", "toxicity") if key in found}
    scale = {"parameters": 0, "tokens": 0, "held_out_nll": 0, **found}
    row = {"step": 1, "phase": "eval", "loss": found.get("loss", 0.0)}
    done = {"output": "model", "metrics": {k: v for k, v in found.items() if isinstance(v, float)}}
    for file, value in (
        ("measured.json", {"numbers": numbers, "exams": exams}),
        ("scale.json", scale),
        ("metrics.jsonl", row),
        ("DONE.json", done),
    ):
        (stage.folder / file).write_text(json.dumps(value) + "\n", encoding="utf-8")


def noise(seed: int) -> float:
    """A little that differs by seed, so that intervals have a width."""
    return 0.001 * (seed % 3 - 1)


def by_stage(**values: Mapping[str, Any]) -> Made:
    """The values of a stage by its name, `gold`, `accuracy` and `loss` with noise; nothing for others."""

    def made(stage: str, seed: int) -> Mapping[str, Any]:
        found = values.get(stage, {})
        return {k: v + noise(seed) if isinstance(v, float) else v for k, v in found.items()}

    return made


def prompted(toxic: float, exam: float) -> Made:
    return by_stage(
        m_base={"toxic": 0.1, "toxicity": [0.1, 0.1]},
        m_prompted={"toxic": toxic, "toxicity": [exam + 0.1, exam - 0.1]},
    )


def golds(**values: float) -> Made:
    return by_stage(**{f"m_{name}": {"gold": value} for name, value in values.items()})


def words(right_of_20: int) -> Made:
    """Bare and prompted have 19 right of 20; the distilled model as many as given."""
    same, fewer = (20 * ([1.0] * k + [0.0] * (20 - k)) for k in (19, right_of_20))
    return by_stage(
        m_base={"last_word": same},
        m_prompted={"last_word": same},
        m_distilled={"last_word": fewer},
    )


def accuracies(**values: float) -> Made:
    return by_stage(**{name: {"accuracy": value} for name, value in values.items()})


def epochs(losses: tuple[float, float, float], golds: tuple[float, float, float]) -> Made:
    stages = {f"sft_{n}": {"loss": x} for n, x in zip((1, 4, 16), losses, strict=True)}
    return by_stage(**stages, **{f"m_sft_{n}": {"gold": x} for n, x in zip((1, 4, 16), golds, strict=True)})


PARAMETERS = {"tiny": 1e5, "small": 1e6, "base": 1e7}


def sizes(accuracy: float, lift: float) -> Made:
    """Both change by so much for each tenfold of size."""

    def made(stage: str, seed: int) -> Mapping[str, Any]:
        size = next((s for s in PARAMETERS if s in stage), "tiny")
        tens = math.log10(PARAMETERS[size]) - 5
        gold = 0.2 + lift * tens * stage.startswith("m_prompted") + noise(seed) * tens
        return {
            "parameters": PARAMETERS[size],
            "accuracy": 0.5 + (accuracy + noise(seed)) * tens,
            "gold": gold,
        }

    return made


def law(alpha: float, beta: float, bend: float = 0.0) -> Made:
    """L = 9 N^-α D^-β, the middle size off by a share `bend`."""

    def made(stage: str, seed: int) -> Mapping[str, Any]:
        size, tokens = stage.split("_")
        n, d = PARAMETERS[size], 1e3 * int(tokens[:-1])
        loss = 9 * n ** -(alpha + noise(seed)) * d**-beta * (1 + bend * (size == "small"))
        return {"parameters": n, "tokens": d, "held_out_nll": loss}

    return made


CASES: list[tuple[str, Made, str]] = [
    ("hhh-prompt-toxicity", prompted(0.01, 0.3), "holds"),
    ("hhh-prompt-toxicity", prompted(0.01, 0.1), "does not hold here"),
    ("hhh-prompt-toxicity", prompted(0.2, 0.3), "does not hold here"),
    ("distillation-keeps-effect", golds(base=0.3, prompted=0.4, distilled=0.39), "holds"),
    ("distillation-keeps-effect", golds(base=0.3, prompted=0.4, distilled=0.35), "does not hold here"),
    ("prompt-tax", words(19), "holds"),
    ("prompt-tax", words(15), "does not hold here"),
    ("prompt-override", golds(base=0.3, prompted=0.4, ignore=0.2, follow=0.3), "holds"),
    ("prompt-override", golds(base=0.3, prompted=0.4, ignore=0.2, follow=0.2), "does not hold here"),
    ("ranked-data", accuracies(by_reward=0.7, by_imitation=0.6), "holds"),
    ("ranked-data", accuracies(by_reward=0.6, by_imitation=0.7), "does not hold here"),
    (
        "mixing-sources",
        accuracies(alone_sft=0.7, mixed_sft=0.69, alone_base=0.8, mixed_base=0.85),
        "holds",
    ),
    (
        "mixing-sources",
        accuracies(alone_sft=0.7, mixed_sft=0.72, alone_base=0.8, mixed_base=0.75),
        "does not hold here",
    ),
    ("sft-loss-quality", epochs((0.6, 0.5, 0.9), (0.3, 0.4, 0.5)), "holds"),
    ("sft-loss-quality", epochs((0.6, 0.5, 0.9), (0.3, 0.4, 0.35)), "does not hold here"),
    ("size-trend", sizes(0.05, 0.1), "holds"),
    ("size-trend", sizes(0.05, -0.1), "does not hold here"),
    ("size-trend", sizes(-0.05, 0.1), "does not hold here"),
    ("scaling-laws", law(0.1, 0.2), "holds"),
    ("scaling-laws", law(0.1, -0.2), "does not hold here"),
    ("scaling-laws", law(0.1, 0.2, bend=0.3), "does not hold here"),
]


@pytest.mark.parametrize(("name", "made", "verdict"), CASES, ids=lambda v: v if isinstance(v, str) else "")
def test_known_numbers_give_the_verdict(name: str, made: Made, verdict: str, tmp_path: Path) -> None:
    found = fabricated(name, tmp_path, made)
    assert found.verdict == verdict, found.effects
    assert found.figure.startswith("<svg")


def test_numbers_of_the_effects_are_those_by_hand(tmp_path: Path) -> None:
    """(.38 − .3) / (.4 − .3) is .8 where noise is common; slopes and exponents are those put in."""
    kept = fabricated("distillation-keeps-effect", tmp_path, golds(base=0.3, prompted=0.4, distilled=0.38))
    assert kept.effects[0].value == pytest.approx(0.8)
    tax = fabricated("prompt-tax", tmp_path / "tax", words(15))
    assert [e.value for e in tax.effects] == pytest.approx([0.0, 0.2])
    trend = fabricated("size-trend", tmp_path / "trend", sizes(0.05, 0.1))
    assert [e.by_seed[0] for e in trend.effects] == pytest.approx([0.05 + noise(1), 0.1])


def test_the_law_and_the_frontier_are_those_put_in() -> None:
    points = [
        scaling_laws.Point(n, d, 9 * n**-0.1 * d**-0.2) for n in (1e5, 1e6, 1e7) for d in (1e5, 1e6, 1e7)
    ]
    found = scaling_laws.fit(points)
    assert (found.alpha, found.beta, found.miss) == pytest.approx((0.1, 0.2, 0.0), abs=1e-9)
    # At equal compute more data always beats more parameters here, so the smallest model's points stay, and
    # beyond its data the larger ones.
    kept = scaling_laws.frontier(points)
    assert [(p.parameters, p.tokens) for p in kept] == [
        (1e5, 1e5),
        (1e5, 1e6),
        (1e5, 1e7),
        (1e6, 1e7),
        (1e7, 1e7),
    ]


@pytest.mark.slow  # reads a prompt of fourteen dialogues fifty times over: some ten seconds
def test_a_recipe_runs_to_a_verdict(tmp_path: Path) -> None:
    """`measure` reads what the stages of a real run wrote."""
    small = {"num_prompts": 8, "exam_items": 0}
    runs = experiment(
        "prompt-override", overrides={n: small for n in ("m_base", "m_prompted", "m_ignore", "m_follow")}
    )
    assert runs is not None
    trials = []
    for seed in (1, 2):
        stages = plan(Recipe(name="x", stages=runs.recipe.stages, seed=seed), tmp_path)
        for stage in stages:
            run_stage(stage)
        trials.append(Trial(seed=seed, stages={stage.name: stage for stage in stages}))
    found = prompt_override.measure(trials)
    assert all(0 <= abs(v) <= 1 for v in found.effects[0].by_seed)
