"""The stepwise loss by hand, and the tokens that it is read at."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from hand_batches import batch, group, loss, tensor
from trueup.engine.groups import Completion, Group
from trueup.errors import TrueupError
from trueup.objectives.stepwise import StepwiseCrossEntropy
from trueup.sources.steps import step_ends, with_steps
from trueup.testing import check_objective


def spell(ids: Any) -> str:
    """Token 1 is "a", 2 "b" ...; 0 ends; 27 is ". " and 28 a line break."""
    return "".join({0: "", 27: ". ", 28: "\n"}.get(int(i), chr(96 + int(i))) for i in ids)


def solved(tokens: list[int], *steps: tuple[str, Any]) -> Group:
    completion = Completion(text=spell(tokens), tokens=np.array(tokens, np.int32))
    held = [{"text": text, "label": label} for text, label in steps]
    return replace(group(1), completions=(completion,), meta={"steps": [held]})


def read(made: Group, **options: Any) -> list[tuple[int, float]]:
    """(token, label) where the loss looks."""
    found = with_steps([made], spell, **{"neutral": "skip", "first_error": False, **options})
    if not found:
        return []
    (c,) = found[0].completions
    assert c.supervised is not None
    return list(zip(np.flatnonzero(c.supervised).tolist(), c.columns["step_label"].tolist(), strict=True))


# ------------------------------------------------------------------------------------------ the loss


def test_by_hand() -> None:
    """σ(0) = ½: log 2; σ(log 3) = ¾ for a right step: log 4/3; for a wrong one: log 4; slopes (σ − p)/3."""
    packed = batch(group({"step_label": [1.0, 1.0, 0.0]}))
    values = tensor(0.0, math.log(3), math.log(3), grad=True)
    value = loss(StepwiseCrossEntropy(), packed, values=values)
    assert value.item() == pytest.approx((math.log(2) + math.log(4 / 3) + math.log(4)) / 3, abs=1e-14)
    value.backward()
    assert values.grad is not None
    assert values.grad.tolist() == pytest.approx([-0.5 / 3, -0.25 / 3, 0.75 / 3], abs=1e-15)


def test_one_step_is_the_binary_classifier() -> None:
    """One step a completion: the logistic loss of a classifier of completions, value and gradient."""
    draw = torch.Generator().manual_seed(0)
    labels = (torch.rand(8, generator=draw) > 0.4).double()
    packed = batch(*[group({"step_label": [float(p)]}) for p in labels])
    mine, other = (torch.linspace(-2, 2, 8, dtype=torch.float64).requires_grad_() for _ in range(2))
    found = loss(StepwiseCrossEntropy(), packed, values=mine)
    expected = binary_cross_entropy_with_logits(other, labels)
    found.backward(), expected.backward()
    assert found.item() == pytest.approx(expected.item(), abs=1e-15)
    torch.testing.assert_close(mine.grad, other.grad, atol=1e-16, rtol=0)


def test_a_soft_label_is_least_at_its_log_odds() -> None:
    packed = batch(group({"step_label": [0.8]}))
    values = tensor(math.log(4), grad=True)
    loss(StepwiseCrossEntropy(), packed, values=values).backward()
    assert values.grad is not None and abs(values.grad.item()) < 1e-16


def test_sound() -> None:
    check_objective(StepwiseCrossEntropy())


# ------------------------------------------------------------------------------------------ where it is read


def test_a_step_is_read_at_the_token_after_its_last_character() -> None:
    """a b ␤ c d end: "ab" has been said after 2 tokens, "cd" after 5, so tokens 2 and 5 are looked at."""
    made = solved([1, 2, 28, 3, 4, 0], ("ab", True), ("cd", False))
    assert step_ends(made.completions[0].tokens, ["ab", "cd"], spell) == [2, 5]
    assert read(made) == [(2, 1.0), (5, 0.0)]


def test_steps_that_say_the_same_are_found_one_after_the_other() -> None:
    assert read(solved([1, 28, 1, 28, 1, 0], ("a", True), ("a", False), ("a", True))) == [
        (1, 1.0),
        (3, 0.0),
        (5, 1.0),
    ]


def test_a_token_that_holds_more_than_the_steps_end_is_part_of_it() -> None:
    """ "a." ends inside the token ". ", and is read after it."""
    assert read(solved([1, 27, 2, 0], ("a.", True), ("b", True))) == [(2, 1.0), (3, 1.0)]


@pytest.mark.parametrize(
    ("neutral", "expected"),
    [("skip", [(1, 1.0)]), ("right", [(1, 1.0), (3, 1.0)]), ("wrong", [(1, 1.0), (3, 0.0)])],
)
def test_a_neutral_step(neutral: str, expected: list[tuple[int, float]]) -> None:
    assert read(solved([1, 28, 2, 0], ("a", True), ("b", None)), neutral=neutral) == expected


def test_nothing_is_learned_after_the_first_error_if_so_asked() -> None:
    made = solved([1, 28, 2, 28, 3, 0], ("a", True), ("b", False), ("c", True))
    assert read(made) == [(1, 1.0), (3, 0.0), (5, 1.0)]
    assert read(made, first_error=True) == [(1, 1.0), (3, 0.0)]


def test_what_no_state_has_read_is_left_out() -> None:
    """Without an end token nothing comes after the last step."""
    assert read(solved([1, 28, 2], ("a", True), ("b", True))) == [(1, 1.0)]
    assert read(solved([1], ("a", True))) == []
    assert with_steps([group(3)], spell, neutral="skip", first_error=False) == []


def test_judgements_of_the_whole_are_dropped_with_the_completions_that_have_no_steps() -> None:
    both = replace(
        solved([1, 0], ("a", 0.25)), completions=(*solved([1, 0]).completions, *solved([2, 0]).completions)
    )
    both = replace(both, meta={"steps": [[], [{"text": "b", "label": 0.25}]]})
    (kept,) = with_steps([both], spell, neutral="skip", first_error=False)
    assert [c.text for c in kept.completions] == ["b"]
    assert kept.completions[0].columns["step_label"].tolist() == [0.25]


@pytest.mark.parametrize(
    ("steps", "code"),
    [
        ("a", "E440"),
        ([], "E440"),
        ([[{"text": "a"}]], "E440"),
        ([[{"text": "a", "label": 2}]], "E440"),
        ([[{"text": "a", "label": "yes"}]], "E440"),
        ([[{"text": " ", "label": True}]], "E440"),
        ([[{"text": "z", "label": True}]], "E441"),
        ([[{"text": "b", "label": True}, {"text": "a", "label": True}]], "E441"),
    ],
)
def test_steps_of_another_shape_are_refused(steps: Any, code: str) -> None:
    made = replace(solved([1, 28, 2, 0]), meta={"steps": steps})
    with pytest.raises(TrueupError) as raised:
        with_steps([made], spell, neutral="skip", first_error=False)
    assert raised.value.code == code
