"""Every method that discovery finds: its objective is sound, its runs repeat and resume to the bit."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest

from trueup.citations import cite
from trueup.commands import look
from trueup.engine.method import Method, Parts
from trueup.objectives.mix import Sum
from trueup.settings import discover
from trueup.settings.blocks import LoraSettings
from trueup.testing import check_method, check_objective, minibatch, tiny_config
from trueup.testing.toys import StandIn, nearby, spelled, toy_groups, toy_prompt_ids, with_columns

BUILDS = [name for name in discover.names() if "build" in vars(discover.find(name))]


def built(module: ModuleType) -> Method:
    """The method on toy groups."""
    parts = Parts(
        groups=toy_groups(),
        held_out=[],
        decode=spelled,
        stop_ids=(0,),
        prompt_ids=toy_prompt_ids,
        more=lambda settings: toy_groups(),
    )
    return module.build(tiny_config(module), parts)


def test_methods_are_found() -> None:
    assert {"sft", "reward_model", "dpo", "ppo"} <= set(BUILDS)
    assert "best_of_n" in discover.names()


@pytest.mark.parametrize("name", BUILDS)
def test_the_objective_is_sound(name: str) -> None:
    check_objective(built(discover.find(name)).objective)


@pytest.mark.parametrize("name", BUILDS)
def test_the_method_repeats_and_resumes_to_the_bit(name: str, tmp_path: Path) -> None:
    check_method(discover.find(name), tmp_path)


@pytest.mark.parametrize("name", BUILDS)
def test_the_method_trains_adapters_as_well(name: str, tmp_path: Path) -> None:
    """With a LoRA adapter for each network, all over one base: the same promises, and the base stays."""
    check_method(discover.find(name), tmp_path, lora=LoraSettings(rank=2))


@pytest.mark.parametrize("name", ["sft", "dpo", "ppo"])
@pytest.mark.parametrize("form", ["rslora", "dora"])
def test_the_other_forms_of_adapters_train(name: str, form: str, tmp_path: Path) -> None:
    check_method(discover.find(name), tmp_path, lora=LoraSettings(rank=2, **{form: True}))


@pytest.mark.parametrize("name", discover.names())
def test_what_a_method_builds_on_is_cited(name: str) -> None:
    module = vars(discover.find(name))
    assert module["SUMMARY"].endswith(".")
    assert cite(module["REFERENCES"]).count("@") == len(module["REFERENCES"]) > 0


@pytest.mark.parametrize("name", BUILDS)
def test_what_a_method_says_it_needs_is_what_it_has(name: str) -> None:
    said = discover.constants(name)
    method = built(discover.find(name))
    needs = set(said["NEEDS"])
    assert said["FAMILY"] in discover.FAMILIES
    assert needs <= set(discover.NEEDS)
    assert list(said["NEEDS"]) == [need for need in discover.NEEDS if need in needs], "in the usual order"
    assert ("sampling" in needs) == ("sampled_logprobs" in method.source.writes)
    assert ("judge" in needs) == bool(method.judge)
    for need, network in (("reference", "reference"), ("critic", "value")):
        assert (need in needs) == (network in method.networks)
    assert said["COPIES"] == len(method.networks)
    objective = method.objective
    networks = {n: StandIn(i) for i, n in enumerate(objective.wants)}
    policy = nearby(networks.get("policy", StandIn()), 0)
    groups = with_columns(toy_groups(), objective.reads, policy=policy, seed=0)
    for _, terms in minibatch(objective, networks, groups)._terms(objective, groups):
        first, *_ = terms.losses.values()
        assert first[1].unit == said["UNIT"]


@pytest.mark.parametrize("name", BUILDS)
def test_a_method_is_shown_down_to_the_loop(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Its own file, its objective's equation, its update rule, and the loop, from the live source."""
    look.show(name)
    shown = capsys.readouterr().out
    objective = built(discover.find(name)).objective
    parts = [part for _, part in objective.parts] if isinstance(objective, Sum) else [objective]
    for words in ("def build(", "def fit(", *(f"class {type(part).__name__}" for part in parts)):
        assert words in shown


def test_programs_are_told_of_every_method(capsys: pytest.CaptureFixture[str]) -> None:
    look.methods(as_json=True)
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert set(discover.names()) <= set(rows)
    for name in BUILDS:
        row = rows[name]
        assert row["references"] and row["needs"] and row["unit"] and row["defaults"]["model"]
        assert row["models"] >= 1 and row["summary"].endswith(".")


def test_what_a_file_computes_does_not_keep_it_from_being_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "mine.py").write_text(
        'import re\nSUMMARY = "Mine."\nPATTERN = re.compile("x")\nA, B = 1, 2\n', encoding="utf-8"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert discover.names("others") == ["mine"]
    assert discover.constants("mine", "others") == {"SUMMARY": "Mine.", "A": 1, "B": 2}
