"""No number drifts: every method's first steps are those that were recorded, to the last bit."""

from __future__ import annotations

import math

import pytest

from golden.trajectories import HERE, KEYS, METHODS, NUM_STEPS, fingerprint, recorded, trajectory
from trueup.settings import discover

FIRST = 3


def check(name: str, num_steps: int) -> None:
    """To the last bit under the recorded fingerprint; elsewhere the first step, to 1e-5."""
    recorded_under, expected = recorded(name)
    assert len(expected) == NUM_STEPS
    assert all(math.isfinite(value) for step in expected for value in step.values())
    same = recorded_under == fingerprint()
    found = trajectory(discover.find(name), num_steps if same else 1)
    if same:
        assert found == expected[: len(found)], "record it anew only if the change is meant, and say so"
    else:
        assert found[0] == pytest.approx(expected[0], rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("name", METHODS)
def test_the_first_steps_are_those_that_were_recorded(name: str) -> None:
    check(name, FIRST)


@pytest.mark.slow  # a minute
@pytest.mark.parametrize("name", METHODS)
def test_fifty_steps_are_those_that_were_recorded(name: str) -> None:
    check(name, NUM_STEPS)


def test_every_method_has_its_file_and_learns() -> None:
    assert {path.stem for path in HERE.glob("*.json")} == set(METHODS)
    for name in METHODS:
        _, steps = recorded(name)
        assert "loss" in steps[0] and set(steps[0]) <= set(KEYS)
        moves = [len({step[key] for step in steps}) for key in steps[0]]
        assert max(moves) >= 8, "fifty steps, not one step fifty times"
