"""Claims on RRHF and soups on fabricated numbers, and the pipelines' claims."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import log
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from trueup.claims import reproduce
from trueup.claims.files import (
    rrhf_against_ppo,
    rrhf_as_reward_model,
    rrhf_iterating,
    rrhf_models,
    rrhf_sample_quality,
    soup_connectivity,
    soup_from_scratch,
    soup_front,
    soup_uniform,
)
from trueup.errors import TrueupError
from trueup.models.opening import model_path
from trueup.procedures import mix
from trueup.runs.recipe import Done, Stage, plan
from trueup.settings.blocks import ModelSettings

CLAIMS = {
    "rrhf-against-ppo": 5,
    "rrhf-models": 1,
    "rrhf-as-reward-model": 5,
    "rrhf-sample-quality": 4,
    "rrhf-iterating": 4,
    "soup-connectivity": 4,
    "soup-front": 6,
    "soup-from-scratch": 3,
    "soup-uniform": 4,
}


@dataclass(frozen=True)
class Made:
    """A trial with the numbers it was made of, by stage and name."""

    seed: int
    given: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    stages: Mapping[str, Stage] = field(default_factory=dict)

    def mean(self, stage: str, name: str) -> float:
        return self.given[stage][name]

    def done(self, stage: str) -> Done:
        return Done(output="", metrics=self.given[stage])


def made(numbers: Mapping[str, Mapping[str, float]], jitter: float = 1e-3) -> list[Made]:
    """Three seeds, at each of which all numbers are a little apart from the last one's."""
    return [
        Made(seed, {s: {k: v + (seed - 2) * jitter for k, v in row.items()} for s, row in numbers.items()})
        for seed in (1, 2, 3)
    ]


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claims_recipe_plans(name: str, tmp_path: Path) -> None:
    found = reproduce.experiment(name)
    assert found is not None and len(found.seeds) == CLAIMS[name] and found.recipe.name == name
    assert all(plan(job.recipe, tmp_path) for job in found.jobs())


@pytest.mark.parametrize(
    ("rrhf", "perplexity", "verdict"),
    [(0.9, 8.0, "holds"), (0.5, 8.0, "does not hold here"), (0.9, 9.0, "does not hold here")],
)
def test_rrhf_against_ppo(rrhf: float, perplexity: float, verdict: str, tmp_path: Path) -> None:
    """PPO gains 1 from 0 at perplexity 8."""
    trials = made(
        {
            "m_sft": {"proxy": 0.0, "perplexity": -log(7.5)},
            "m_rrhf_rm": {"proxy": rrhf, "perplexity": -log(perplexity)},
            "m_ppo": {"proxy": 1.0, "perplexity": -log(8.0)},
        }
    )
    found = rrhf_against_ppo.measure(trials)  # pyright: ignore[reportArgumentType]
    assert found.verdict == verdict
    assert [e.value for e in found.effects] == pytest.approx([rrhf, perplexity / 8], abs=1e-3)


@pytest.mark.parametrize(
    ("rrhf", "verdict"), [(0.63, "holds"), (0.55, "does not hold here"), (0.60, "undecided")]
)
def test_rrhf_as_a_reward_model(rrhf: float, verdict: str, tmp_path: Path) -> None:
    trials = made({"by_reward": {"accuracy": 0.65}, "by_rrhf": {"accuracy": rrhf}})
    trials[0].given["by_rrhf"]["accuracy"] -= 0.01  # pyright: ignore[reportIndexIssue]
    found = rrhf_as_reward_model.measure(trials)  # pyright: ignore[reportArgumentType]
    assert found.verdict == verdict


@pytest.mark.parametrize(("better", "verdict"), [(0.5, "holds"), (0.1, "does not hold here")])
def test_the_quality_of_samples(better: float, verdict: str, tmp_path: Path) -> None:
    """Samples of gold 0, .3 and .6, policies on a line from .3: the slope by hand is (better − .3) / .6."""
    gold = {
        "m_base": 0.0,
        "m_sft": 0.3,
        "m_dpo": 0.6,
        "m_rrhf_base": 0.3,
        "m_rrhf_rm": (0.3 + better) / 2,
        "m_rrhf_dpo": better,
    }
    trials = made({stage: {"gold": value} for stage, value in gold.items()})
    found = rrhf_sample_quality.measure(trials)  # pyright: ignore[reportArgumentType]
    assert found.verdict == verdict
    assert found.effects[0].value == pytest.approx((better - 0.3) / 0.6)


@pytest.mark.parametrize(("second", "verdict"), [(0.5, "holds"), (0.3, "does not hold here")])
def test_a_second_round(second: float, verdict: str, tmp_path: Path) -> None:
    rounds = {"m_sft": 0.0, "m_rrhf_rm": 0.4, "m_rrhf_again": second}
    trials = made({stage: {"proxy": value, "gold": value} for stage, value in rounds.items()})
    found = rrhf_iterating.measure(trials)  # pyright: ignore[reportArgumentType]
    assert found.verdict == verdict
    assert found.effects[0].value == pytest.approx(second - 0.4)


def test_the_models_in_memory_are_counted(tmp_path: Path) -> None:
    """PPO's policy, reference, critic and reward model beside RRHF's policy; 4 copies of what is trained."""
    experiment = reproduce.experiment("rrhf-models")
    assert experiment is not None
    stages = {stage.name: stage for stage in plan(experiment.jobs()[0].recipe, tmp_path)}
    stages = {
        name: replace(stage, config=replace(stage.config, model=ModelSettings()))
        for name, stage in stages.items()
        if name in ("rrhf", "ppo")
    }
    found = rrhf_models.measure([Made(1, stages=stages)])  # pyright: ignore[reportArgumentType]
    assert found.effects[0].value == 4 - 1 and found.verdict == "holds"
    assert "RRHF holds 4 times" in found.caption and "PPO 10 times" in found.caption


def front_of(*, between: float, morl: float) -> dict[str, object]:
    """Experts at (1, 0) and (0, 1), soups so far over the line between them, MORL's policies likewise."""

    def row(kind: str, weights: list[float], rewards: tuple[float, float]) -> dict[str, object]:
        given = {name: {"mean": value} for name, value in zip(("helpful", "short"), rewards, strict=True)}
        return {"kind": kind, "weights": weights, "rewards": given}

    thirds = (0.0, 1 / 3, 2 / 3, 1.0)
    soups = [
        row("soup", [w, 1 - w], (w + between * (0 < w < 1), 1 - w + between * (0 < w < 1))) for w in thirds
    ]
    others = [row("morl", [], (w + morl, 1 - w + morl)) for w in thirds[1:3]]
    return {
        "rewards": ["helpful", "short"],
        "policies": [row("start", [], (0.0, 0.0)), *soups, *others],
        "hypervolume": {"soups": {"mean": 0.5 + between}, "morl": {"mean": 0.5 + morl}},
    }


@dataclass(frozen=True)
class Kept:
    """A trial whose stages wrote below one folder."""

    seed: int
    place: Path

    def folder(self, stage: str) -> Path:
        return self.place / stage


def kept(tmp_path: Path, **fronts: float) -> list[Kept]:
    found = []
    for seed in (1, 2, 3):
        (tmp_path / str(seed) / "soup").mkdir(parents=True)
        given = {name: value + 0.01 * (seed - 2) for name, value in fronts.items()}
        (tmp_path / str(seed) / "soup" / "front.json").write_text(json.dumps(front_of(**given)))
        found.append(Kept(seed, tmp_path / str(seed)))
    return found


@pytest.mark.parametrize(("between", "verdict"), [(0.2, "holds"), (-0.3, "does not hold here")])
def test_the_line_between_experts(between: float, verdict: str, tmp_path: Path) -> None:
    found = soup_connectivity.measure(kept(tmp_path, between=between, morl=0.0))  # pyright: ignore[reportArgumentType]
    assert found.verdict == verdict
    assert [e.value for e in found.effects] == pytest.approx([between, between])


@pytest.mark.parametrize(("between", "verdict"), [(0.2, "holds"), (-0.2, "does not hold here")])
def test_the_front_of_soups(between: float, verdict: str, tmp_path: Path) -> None:
    found = soup_front.measure(kept(tmp_path, between=between, morl=0.1))  # pyright: ignore[reportArgumentType]
    assert found.verdict == verdict
    assert found.effects[0].value == pytest.approx((0.5 + between) / 0.6, abs=0.01)


@pytest.mark.parametrize(("average", "verdict"), [(0.6, "holds"), (0.4, "does not hold here")])
def test_the_uniform_average(average: float, verdict: str, tmp_path: Path) -> None:
    golds = {**dict(zip(soup_uniform.EXPERTS, (0.4, 0.5, 0.6), strict=True)), "four_uniform": average}
    trials = made({stage: {"gold": value} for stage, value in golds.items()})
    found = soup_uniform.measure(trials)  # pyright: ignore[reportArgumentType]
    assert found.verdict == verdict
    assert found.effects[0].value == pytest.approx(average - 0.5)


def test_one_function_with_its_neurons_in_another_order_does_not_mix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reordering the hidden neurons of every layer leaves the function and moves the weights: a barrier."""
    monkeypatch.setattr(soup_from_scratch, "DOCUMENTS", 6)
    monkeypatch.setattr(soup_from_scratch, "WEIGHTS", (0.0, 0.5, 1.0))
    base = Path(model_path("lab:base"))
    for seed in (1, 2):
        shutil.copytree(base, tmp_path / str(seed) / "base_600k" / "model")
    file = tmp_path / "2" / "base_600k" / "model" / "model.safetensors"
    tensors = load_file(file)
    for name, tensor in tensors.items():
        if "gate_proj" in name or "up_proj" in name:
            tensors[name] = tensor.flip(0).contiguous()
        elif "down_proj" in name:
            tensors[name] = tensor.flip(1).contiguous()
    save_file(tensors, file, metadata={"format": "pt"})
    trials = [Kept(seed, tmp_path / str(seed)) for seed in (1, 2)]
    found = soup_from_scratch.measure(trials)  # pyright: ignore[reportArgumentType]
    assert found.effects[0].value > 1 and found.verdict == "holds"
    same = soup_from_scratch.losses(*(str(trials[0].folder("base_600k") / "model"),) * 2)
    assert same == pytest.approx([same[0]] * len(same), abs=1e-6), "a model mixes with itself"


def test_the_stage_mix_averages_weights(tmp_path: Path) -> None:
    """All alike where no weights are given; one-hot weights give an expert's own bits."""
    base = Path(model_path("lab:base"))
    for name in ("one", "other"):
        shutil.copytree(base, tmp_path / name)
    one = load_file(base / "model.safetensors")
    other = {name: 3 * tensor for name, tensor in one.items()}
    save_file(other, tmp_path / "other" / "model.safetensors", metadata={"format": "pt"})
    mean = {
        name: ((tensor.double() + other[name].double()) / 2).to(tensor.dtype) for name, tensor in one.items()
    }
    experts = {name: str(tmp_path / name) for name in ("one", "other")}
    for folder, weights, expected in (("mean", (), mean), ("hot", (0.0, 1.0), other)):
        (tmp_path / folder).mkdir()
        config = mix.Config(experts=experts, weights=weights)
        done = mix.run(config, tmp_path / folder, stop_requested=lambda: "")
        mixed = load_file(tmp_path / folder / done.output / "model.safetensors")
        assert all(mixed[name].equal(tensor) for name, tensor in expected.items())
    with pytest.raises(TrueupError, match="E736"):
        mix.run(mix.Config(experts=experts, weights=(0.5, 0.6)), tmp_path, stop_requested=lambda: "")
