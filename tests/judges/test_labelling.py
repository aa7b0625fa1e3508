"""Rankings and comparisons that scores and comparisons make, by hand."""

from __future__ import annotations

from trueup.engine.groups import Comparison, Completion, Group, Message, Role
from trueup.judges.labelling import compared_by_scores, ranked_by_comparisons, ranked_by_scores


def group(*texts: str, comparisons: tuple[Comparison, ...] = ()) -> Group:
    said = tuple(Completion(text=text) for text in texts)
    return Group(prompt=(Message(Role.USER, "say"),), completions=said, comparisons=comparisons, id="g")


def test_scores_rank_with_equals_in_one_tier() -> None:
    ranked, same = ranked_by_scores(
        [group("a", "b", "c", "d"), group("a", "b")], [[1, 3, 3, 2], [5, 5]], "me"
    )
    assert ranked.rankings[0].tiers == ((1, 2), (3,), (0,)) and ranked.rankings[0].labeler == "me"
    assert len(ranked.pairs()) == 5 and not same.rankings


def test_comparisons_rank_by_the_sum_of_shares() -> None:
    """b beats a and c, c beats a by .9, d was never judged: b 2.5, d 1.5, c 1.4, a .6."""
    made = (
        Comparison(a=0, b=1, choice="b", labeler="lm"),
        Comparison(a=1, b=2, choice="a", labeler="lm"),
        Comparison(a=0, b=2, choice="b", probability=0.1, labeler="lm"),
    )
    (ranked,) = ranked_by_comparisons([group("a", "b", "c", "d", comparisons=made)])
    assert ranked.rankings[0].tiers == ((1,), (3,), (2,), (0,)) and not ranked.comparisons
    tie = Comparison(a=0, b=1, choice="tie", labeler="lm")
    assert ranked_by_comparisons([group("a", "b", comparisons=(tie,))])[0].rankings == ()


def test_scores_compare_pairs_of_different_texts() -> None:
    """Of a, a, b two pairs differ; equal scores tie."""
    (found,) = compared_by_scores([group("a", "a", "b")], [[1, 2, 2]], "me", num_comparisons=9, seed=0)
    assert [(c.a, c.b, c.choice, c.labeler) for c in found.comparisons] == [
        (0, 2, "b", "me"),
        (1, 2, "tie", "me"),
    ]
    (one,) = compared_by_scores([group("a", "b", "c")], [[1, 2, 3]], "me", num_comparisons=1, seed=0)
    assert len(one.comparisons) == 1 and one.comparisons[0].choice == "b"
