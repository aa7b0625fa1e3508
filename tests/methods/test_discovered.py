"""Every method that discovery finds: its objective is sound, its runs repeat and resume to the bit."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from trueup import discover
from trueup.citations import cite
from trueup.method import Method, Parts
from trueup.settings import LoraSettings
from trueup.testing import check_method, check_objective, minibatch, tiny_config
from trueup.toys import StandIn, nearby, toy_groups, toy_prompt_ids, with_columns

BUILDS = [name for name in discover.names() if "build" in vars(discover.find(name))]


def built(module: ModuleType) -> Method:
    """The method on toy groups."""
    parts = Parts(
        groups=toy_groups(),
        held_out=[],
        decode=str,
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
