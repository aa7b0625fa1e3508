"""Labels from judgements, and KTO's baseline."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from hand_batches import group
from trueup.annotate.unpaired import MismatchedKL, desirable, labelled, mismatched
from trueup.engine.groups import Comparison, Group, Ranking, Score
from trueup.engine.method import Handles
from trueup.engine.packing import pack
from trueup.testing.toys import StandIn, toy_groups


def labels(given: Group) -> dict[str, float]:
    """The label of every completion that has one, by its text."""
    return {c.text: c.marks["desirable"] for c in desirable(given).completions}


def test_chosen_is_good_and_rejected_bad() -> None:
    assert labels(group(1, 2, comparisons=(Comparison(a=0, b=1, choice="b"),))) == {"0": -1, "1": 1}
    soft = Comparison(a=0, b=1, choice="a", probability=0.2)
    assert labels(group(1, 2, comparisons=(soft,))) == {"0": -1, "1": 1}


def test_of_a_ranking_the_top_and_the_bottom_tier_are_labelled() -> None:
    ranked = group(1, 1, 1, 1, rankings=(Ranking(tiers=((2,), (0, 3), (1,))),))
    assert labels(ranked) == {"2": 1, "1": -1}


def test_what_was_both_preferred_and_rejected_or_only_tied_has_no_label() -> None:
    both = (Comparison(a=0, b=1, choice="a"), Comparison(a=0, b=1, choice="b"))
    assert labels(group(1, 2, comparisons=both)) == {}
    assert labels(group(1, 2, comparisons=(Comparison(a=0, b=1, choice="tie"),))) == {}


def test_scores_are_good_above_0() -> None:
    scores = tuple(
        Score(completion=i, value=v, judge="label") for i, v in [(0, 1.0), (1, 0.0), (2, -3.0), (2, 5.0)]
    )
    assert labels(replace(group(1, 1, 1, 1), scores=scores)) == {"0": 1, "1": -1, "2": 1}


def test_groups_without_labels_are_left_out_and_judgements_spent() -> None:
    kept = labelled([group(1, 2), group(1, 2, comparisons=(Comparison(a=0, b=1, choice="a"),))])
    assert len(kept) == 1
    assert not kept[0].pairs()


def test_every_prompt_meets_the_completions_of_the_group_before() -> None:
    groups = toy_groups(4)
    crossed = mismatched(groups)
    for i, found in enumerate(crossed):
        assert np.array_equal(found.prompt_tokens, groups[i].prompt_tokens)  # pyright: ignore
        assert [c.text for c in found.completions] == [c.text for c in groups[i - 1].completions]


def test_mismatched_pairs_never_share_a_prompt() -> None:
    """Prompts that come several times, side by side and apart, as a file of single labels has them."""
    a, b, c = toy_groups(3)
    for order in ([a, a, b], [a, b, a, a], [b, a, a, c, c, a], [a, a, a, a, b]):
        said = [replace(g, id=str(i)) for i, g in enumerate(order)]
        for own, crossed in zip(said, mismatched(said), strict=True):
            assert crossed.id == own.id and np.array_equal(crossed.prompt_tokens, own.prompt_tokens)  # pyright: ignore
            giver = next(g for g in said if g.completions[0].text == crossed.completions[0].text)
            assert not np.array_equal(giver.prompt_tokens, own.prompt_tokens)  # pyright: ignore
    # Of b a a c c a: before b stands a, before either a stands b, before either c the a, before the last a c.
    texts = [g.completions[0].text for g in mismatched([b, a, a, c, c, a])]
    assert texts == [g.completions[0].text for g in (a, b, b, a, a, c)]
    assert mismatched([a, a]) == mismatched([a]) == mismatched([]) == []


def test_a_step_of_one_prompt_has_no_baseline_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    (a,) = toy_groups(1)
    handles = Handles(networks={})
    for _ in range(2):
        assert MismatchedKL()([a, a], handles)[1].completions[0].marks["kl_baseline"] == 0
    assert [r.getMessage()[:40] for r in caplog.records] == ["KTO: all 2 groups of a step have the same"[:40]]


def test_the_baseline_is_the_mean_log_ratio_of_mismatched_pairs_at_least_0() -> None:
    """Summed one pair at a time, each in a batch of its own; never below 0, and 0 for one group."""
    groups = toy_groups(5)
    policy, reference = StandIn(1), StandIn(2)
    total, count = 0.0, 0
    for i, g in enumerate(groups):
        for c in groups[i - 1].completions:
            alone = pack([replace(g, completions=(replace(c, columns={}),), comparisons=(), rankings=())])
            with torch.no_grad():
                said = [net(alone, ("logprobs",)).logprobs.sum().item() for net in (policy, reference)]  # pyright: ignore
            total, count = total + said[0] - said[1], count + 1
    noted: dict[str, float] = {}
    found = {}
    for way, networks in (
        ("on", {"policy": policy, "reference": reference}),
        ("back", {"policy": reference, "reference": policy}),
    ):
        handles = Handles(networks=networks, dtype=torch.float64, record=noted.update, microbatch_tokens=20)
        marked = MismatchedKL()(groups, handles)
        values = {c.marks["kl_baseline"] for g in marked for c in g.completions}
        assert len(values) == 1 and values == {noted["kto/baseline"]}
        found[way] = values.pop()
        assert MismatchedKL()(groups[:1], handles)[0].completions[0].marks["kl_baseline"] == 0
    mean = total / count
    assert abs(mean) > 0.01
    assert found == pytest.approx({"on": max(0, mean), "back": max(0, -mean)}, abs=1e-12)
