"""The simulated labelers: their choices follow the stated formula, biases included."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from trueup.engine.groups import Completion, Group, digest
from trueup.errors import TrueupError
from trueup.lab import Labeler, demonstrations, grade, label, prompts
from trueup.lab.labelers import LABELERS, utility
from trueup.lab.replies import FLATTERIES, right, write
from trueup.lab.requests import Request
from trueup.lab.world import generator


def groups_with(num: int, manners: tuple[str, ...] = ("right", "wrong", "short", "evasive")) -> list[Group]:
    made = []
    for i, group in enumerate(prompts("train", num)):
        request = Request(group.prompt, group.meta["request"])
        texts = [write(generator("labeler test", i, m), request, m) for m in manners]
        made.append(group.with_completions([Completion(text=t) for t in texts]))
    return made


def same_text(num: int, texts: tuple[str, ...]) -> list[Group]:
    return [g.with_completions([Completion(text=t) for t in texts]) for g in prompts("train", num)]


def test_labels_depend_on_the_seed_and_the_group_alone() -> None:
    groups = groups_with(40)
    once = label(groups, 7)
    assert digest(once) == digest(label(groups, 7))
    assert digest(once) != digest(label(groups, 8))
    assert digest(label(groups[::-1], 7)[::-1]) == digest(once)


def test_most_labels_agree_with_gold_and_some_do_not() -> None:
    right_way = []
    for group in label(groups_with(600), 0, num_comparisons=3):
        golds = [grade(group.meta["request"], c.text).gold for c in group.completions]
        right_way += [
            golds[p.chosen] > golds[p.rejected] for p in group.pairs() if golds[p.chosen] != golds[p.rejected]
        ]
    assert 0.8 < np.mean(right_way) < 0.98


def test_the_choice_follows_bradley_and_terry() -> None:
    """Gold 1 against .72 at temperature .2, 10 % noise: .9 σ(1.4) + .05 = .772."""
    labeler = Labeler(name="x", temperature=0.2, noise=0.1)
    base = [g for g in prompts("train", 4000) if g.meta["request"]["kind"] == "harmful"][:250]
    groups = []
    for g in base:
        best = right(generator("bt"), g.meta["request"])
        texts = (best, "I will not help with that.")
        groups.append(g.with_completions([Completion(text=t) for t in texts]))
    wins = [p.chosen == 0 for s in range(6) for g in label(groups, s, labelers=[labeler]) for p in g.pairs()]
    expected = 0.9 / (1 + math.exp(-1.4)) + 0.05
    assert np.mean(wins) == pytest.approx(expected, abs=0.04)


def test_biases_move_choices_the_stated_way() -> None:
    texts = ("ok ok", "ok " * 20)
    long = Labeler(name="long", length_bias=0.5, noise=0.0)
    chosen = [p.chosen for g in label(same_text(200, texts), 0, labelers=[long]) for p in g.pairs()]
    assert np.mean(chosen) > 0.95
    flattered = Labeler(name="vain", flattery_bias=1.0, noise=0.0)
    texts = ("ok", FLATTERIES[0])
    chosen = [p.chosen for g in label(same_text(200, texts), 0, labelers=[flattered]) for p in g.pairs()]
    assert np.mean(chosen) > 0.95
    left = Labeler(name="left", position_bias=1.0, noise=0.0)
    for group in label(same_text(50, ("ok", "well")), 0, labelers=[left]):
        (comparison,) = group.comparisons
        assert comparison.shown is not None
        assert comparison.shown[0] == (comparison.a if comparison.choice == "a" else comparison.b)


def test_both_orders_are_shown_equally_often() -> None:
    shown = Counter(c.shown == (c.a, c.b) for g in label(groups_with(400), 0) for c in g.comparisons)
    assert 0.42 < shown[True] / sum(shown.values()) < 0.58


def test_equals_are_ties_and_equal_texts_are_not_compared() -> None:
    fair = Labeler(name="fair", noise=0.0)
    for group in label(same_text(20, ("ok", "well")), 0, labelers=[fair]):
        assert [c.choice for c in group.comparisons] == ["tie"]
        assert group.pairs() == ()
    assert all(g.comparisons == () for g in label(same_text(5, ("ok", "ok")), 0))
    assert all(g.rankings == () for g in label(same_text(5, ("ok", "ok")), 0, "ranking"))


def test_strength_has_four_steps_and_grows_with_the_difference() -> None:
    fair = Labeler(name="fair", noise=0.0, temperature=1e-3)
    by_strength: dict[float, list[float]] = {}
    for group in label(groups_with(500), 0, labelers=[fair], num_comparisons=4):
        golds = [grade(group.meta["request"], c.text).gold for c in group.completions]
        for c in group.comparisons:
            if c.strength is not None:
                by_strength.setdefault(c.strength, []).append(abs(golds[c.a] - golds[c.b]))
    assert sorted(by_strength) == [1, 2, 3, 4]
    assert max(by_strength[1]) < min(by_strength[3])


def test_rankings_order_every_completion_once() -> None:
    first_best = []
    for group in label(groups_with(300), 0, "ranking"):
        (ranking,) = group.rankings
        assert sorted(i for tier in ranking.tiers for i in tier) == [0, 1, 2, 3]
        golds = [grade(group.meta["request"], c.text).gold for c in group.completions]
        first_best.append(golds[ranking.tiers[0][0]] == max(golds))
    assert np.mean(first_best) > 0.6


def test_the_crowd_is_named_and_biased() -> None:
    assert len({labeler.name for labeler in LABELERS}) == len(LABELERS) == 5
    assert utility(LABELERS[1], "You are so wise! It is 3.", 0.5) == pytest.approx(0.56)
    names = Counter(c.labeler for g in label(groups_with(300), 0) for c in g.comparisons)
    assert set(names) == {labeler.name for labeler in LABELERS}


def test_one_completion_cannot_be_compared() -> None:
    with pytest.raises(TrueupError, match="E401"):
        label(demonstrations(1), 0)
    with pytest.raises(TrueupError, match="E704"):
        label(groups_with(1), 0, "stars")  # wrong on purpose
