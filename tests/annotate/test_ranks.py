"""Pairs and the best of a group, from scores and from what files state."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hand_batches import group, handles
from trueup.annotate.ranks import Ranked, Stated, Which
from trueup.engine.groups import Comparison, Group, Ranking, Score


def ranked(which: Which, *scores: float) -> tuple[set[tuple[int, int]], list[float]]:
    """The (winner, loser) pairs, and the mark `best`."""
    made = group(*(1 for _ in scores), marks=[{"score": float(s)} for s in scores])
    (found,) = Ranked(which=which)([made], handles()[0])
    return shape(found)


def shape(found: Group) -> tuple[set[tuple[int, int]], list[float]]:
    pairs = found.pairs()
    assert len(set(pairs)) == len(pairs)
    return {(p.chosen, p.rejected) for p in pairs}, [c.marks["best"] for c in found.completions]


def test_all_strict_pairs() -> None:
    assert ranked("all", 0, 1, 1) == ({(1, 0), (2, 0)}, [0, 1, 0])


def test_extremes() -> None:
    assert ranked("extremes", 2, 0, 3, 1) == ({(2, 1)}, [0, 0, 1, 0])
    assert ranked("extremes", 1, 1) == (set(), [1, 0])


def test_a_tournament_has_one_meeting_less_than_players() -> None:
    """(0, 1) and (2, 3) meet, then the winners 0 and 2: 2 beats 0."""
    assert ranked("tournament", 2, 0, 3, 1) == ({(0, 1), (2, 3), (2, 0)}, [0, 0, 1, 0])
    for k in range(1, 9):
        pairs, best = ranked("tournament", *[(7 * i) % 11 for i in range(k)])
        assert len(pairs) == k - 1
        assert sum(best) == 1


def test_an_odd_one_out_waits() -> None:
    """0 meets 1; then 1, the winner, meets 2, who waited."""
    assert ranked("tournament", 0, 1, 2) == ({(1, 0), (2, 1)}, [0, 0, 1])


def test_the_share_of_groups_with_a_pair_is_logged() -> None:
    run, noted = handles()
    made = [group(1, 1, marks=[{"score": s}, {"score": 0.0}]) for s in (0.0, 1.0)]
    Ranked()(made, run)
    assert noted == {"preferences/share": 0.5}


def stated(given: Group) -> tuple[set[tuple[int, int]], list[float]]:
    return shape(Stated()([given], handles()[0])[0])


def test_comparisons_stay_as_they_are_and_most_wins_are_best() -> None:
    """b over a, b over c: b has two wins."""
    said = (Comparison(a=1, b=0, choice="a"), Comparison(a=2, b=1, choice="b"))
    assert stated(group(1, 1, 1, comparisons=said)) == ({(1, 0), (1, 2)}, [0, 1, 0])


def test_rankings_are_pairs_too() -> None:
    found = stated(group(1, 1, 1, rankings=(Ranking(tiers=((2,), (0, 1))),)))
    assert found == ({(2, 0), (2, 1)}, [0, 0, 1])


def test_scores_alone_are_averaged_and_compared() -> None:
    """Means 2, 1 and none: one pair; who has no score is in none."""
    said = [(0, 1.0), (0, 3.0), (1, 1.0)]
    scores = tuple(Score(completion=i, value=v, judge=str(n)) for n, (i, v) in enumerate(said))
    assert stated(replace(group(1, 1, 1), scores=scores)) == ({(0, 1)}, [1, 0, 0])


@pytest.mark.parametrize("p", [0.9, 0.1])
def test_a_soft_label_counts_for_the_likelier_side(p: float) -> None:
    _, best = stated(group(1, 1, comparisons=(Comparison(a=0, b=1, choice="a", probability=p),)))
    assert best == ([1, 0] if p > 0.5 else [0, 1])


def test_without_judgements_the_first_is_what_to_imitate() -> None:
    assert stated(group(1)) == (set(), [1])
