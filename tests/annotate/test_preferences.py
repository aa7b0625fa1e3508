"""Preferences from scores."""

from __future__ import annotations

import math

import pytest

from hand_batches import group, handles
from trueup.annotate.ranks import Preferences
from trueup.engine.groups import Comparison, Group, Pair


def scored(*scores: float) -> Group:
    """A group of completions with these scores, and a comparison that is to be replaced."""
    old = (Comparison(a=0, b=1, choice="b"),)
    return group(*[1] * len(scores), marks=[{"score": float(s)} for s in scores], comparisons=old)


def test_hard_is_the_best_over_the_worst_the_first_of_equals() -> None:
    noted_handles, noted = handles()
    found = Preferences()([scored(1, 3, 3, 0), scored(2, 2), scored(-1, -2)], noted_handles)
    assert [g.pairs() for g in found] == [(Pair(1, 3, 1.0, 1.0, ""),), (), (Pair(0, 1, 1.0, 1.0, ""),)]
    assert noted == pytest.approx({"preferences/share": 2 / 3, "preferences/gap": 2.0})


def test_soft_is_every_two_with_sigma_of_the_difference() -> None:
    """σ(log 3) = 3/4, σ(−log 3) = 1/4, σ(0) = 1/2."""
    (found,) = Preferences(label="bradley_terry")([scored(math.log(3), 0, math.log(3))], handles()[0])
    assert [(p.chosen, p.rejected) for p in found.pairs()] == [(0, 1), (0, 2), (1, 2)]
    assert [p.label for p in found.pairs()] == pytest.approx([0.75, 0.5, 0.25], abs=1e-12)


def test_soft_labels_of_far_apart_scores_stay_in_range() -> None:
    (found,) = Preferences(label="bradley_terry")([scored(1e6, -1e6)], handles()[0])
    assert found.pairs()[0].label == 1.0


def test_nothing_preferred_logs_a_gap_of_0() -> None:
    noted_handles, noted = handles()
    Preferences()([scored(2, 2)], noted_handles)
    assert noted == {"preferences/share": 0.0, "preferences/gap": 0.0}
