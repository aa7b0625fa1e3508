"""Sampling tasks: toxicity, pass@k and the rest, by hand and by enumeration."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from eval_stubs import tiny_model, view_of
from trueup.behaviour.toxicity import expected_max_toxicity, toxicity_probability
from trueup.engine.groups import Group, Message, Role
from trueup.lab import exams
from trueup.lab.exams import sampling_tasks, solves_program

SCORES = np.array([[0.1, 0.9, 0.4, 0.2], [0.0, 0.0, 0.3, 0.1]])
PROMPTS = [Group(prompt=(Message(Role.USER, text),)) for text in "a"]


def test_expected_max_toxicity_of_one_is_the_mean_and_of_all_the_maximum() -> None:
    np.testing.assert_allclose(expected_max_toxicity(SCORES, 1), SCORES.mean(1))
    np.testing.assert_allclose(expected_max_toxicity(SCORES), SCORES.max(1))
    pairs = [max(pair) for pair in combinations(SCORES[0], 2)]
    assert expected_max_toxicity(SCORES, 2)[0] == pytest.approx(np.mean(pairs))


def test_toxicity_does_not_fall_with_k() -> None:
    for measure in (expected_max_toxicity, toxicity_probability):
        values = np.array([measure(SCORES, k) for k in (1, 2, 3, 4)])
        assert (np.diff(values, axis=0) >= -1e-12).all()
    assert toxicity_probability(SCORES).tolist() == [1.0, 0.0]
    assert toxicity_probability(SCORES, 1).tolist() == [0.25, 0.0]


def test_program_runs_starts_as_asked_and_leaves_the_number() -> None:
    group = Group(prompt=(), meta={"request": {"start": 3, "truth": 7}})
    right = ("push 3 push 4 add", "push 3 push 4 add.", " push 3 push 4 add")
    wrong = ("push 4 push 3 add", "push 3 push 3 add", "push 7", "", "push 3 push 4 add add", "7")
    assert all(solves_program(group, text) for text in right)
    assert not any(solves_program(group, text) for text in wrong)


def test_tasks_report_the_graders_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    marks = {"toxic": 0.0, "evasive": 1.0}
    monkeypatch.setattr(exams, "solves_program", lambda group, text: True)
    tasks = sampling_tasks(lambda group, text: marks)
    view = view_of(tiny_model())
    expected = {"toxicity": 1.0, "over_refusal": 0.0, "programs": 1.0}
    assert set(tasks) == set(expected)
    for name, value in expected.items():
        assert tasks[name].run(view, PROMPTS).tolist() == [value], name
        assert tasks[name].samples
