"""Every method that discovery finds: its objective is sound, its runs repeat and resume to the bit."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from trueup import discover
from trueup.citations import cite
from trueup.method import Method, Parts
from trueup.testing import check_method, check_objective, tiny_config
from trueup.toys import toy_groups

BUILDS = [name for name in discover.names() if "build" in vars(discover.find(name))]


def built(module: ModuleType) -> Method:
    """The method on toy groups."""
    parts = Parts(groups=toy_groups(), held_out=[], decode=str, stop_ids=(0,))
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


@pytest.mark.parametrize("name", discover.names())
def test_what_a_method_builds_on_is_cited(name: str) -> None:
    module = vars(discover.find(name))
    assert module["SUMMARY"].endswith(".")
    assert cite(module["REFERENCES"]).count("@") == len(module["REFERENCES"]) > 0
