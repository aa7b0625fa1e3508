"""Selections by hand, and the laws of what they keep."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from hand_batches import FIRST_WINS, group, handles
from trueup.annotate.select import BestOfGroup, ShapedScore, TopAcrossGroups
from trueup.engine.groups import Group, Score


def scored(*scores: float, name: str = "") -> Group:
    """A group of one-token completions with these scores."""
    return replace(group(*([1] * len(scores)), marks=[{"score": s} for s in scores]), id=name)


def kept_texts(groups: list[Group]) -> list[tuple[str, ...]]:
    return [tuple(c.text for c in g.completions) for g in groups]


def test_the_best_of_each_group_is_kept_and_judgements_on_the_others_go() -> None:
    """Scores (1, 3, 2) and (5, 4): completions 1 and 0; the mean of 3 and 5 is 4."""
    run, noted = handles()
    first = replace(
        scored(1, 3, 2), comparisons=FIRST_WINS, scores=(Score(completion=0, value=1, judge="j"),)
    )
    out = BestOfGroup()([first, scored(5, 4)], run)
    assert kept_texts(out) == [("1",), ("0",)]
    assert noted == {"best_score": 4.0}
    assert out[0].comparisons == out[0].scores == () and out[0].pairs() == ()


def test_another_mark_may_decide_while_the_score_is_logged() -> None:
    run, noted = handles()
    made = group(1, 1, marks=[{"score": 1.0, "shaped_score": 9.0}, {"score": 3.0, "shaped_score": 2.0}])
    assert kept_texts(BestOfGroup(by="shaped_score")([made], run)) == [("0",)]
    assert noted == {"best_score": 1.0}


def test_the_penalised_score_by_hand() -> None:
    """β = .5: h = (−1 + 2) + (−1 + 1.5) = 1.5, so 2 − .75 = 1.25."""
    run, noted = handles()
    made = group({"old_logprobs": [-1, -1], "ref_logprobs": [-2, -1.5]}, marks=[{"score": 2.0}])
    (out,) = ShapedScore(beta=0.5)([made], run)
    assert out.completions[0].marks["shaped_score"] == pytest.approx(1.25)
    assert noted == pytest.approx({"kl": 1.5, "beta": 0.5, "reward": 1.25})


@pytest.mark.parametrize("k", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("size", [7, 10, 64])
def test_exactly_one_in_k_is_kept_across_prompts(k: int, size: int) -> None:
    """⌊b / k⌋ of b, each at least as good as any that was dropped, in the order given."""
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 5, size).astype(float)  # with many ties
    groups = [scored(float(s), name=str(i)) for i, s in enumerate(scores)]
    out = TopAcrossGroups(k=k)(groups, handles()[0])
    names = [int(g.id) for g in out]
    assert len(out) == size // k
    assert names == sorted(names)
    dropped = set(range(size)) - set(names)
    assert not dropped or scores[names].min() >= scores[list(dropped)].max()


def test_groups_of_several_give_one_group_for_each_completion_kept() -> None:
    """Of 5 completions the best 2, both of the first prompt: the ranking runs across prompts."""
    run, noted = handles()
    out = TopAcrossGroups(k=2)([scored(7, 1, 9, name="a"), scored(2, 3, name="b")], run)
    assert [(g.id, *kept_texts([g])[0]) for g in out] == [("a", "0"), ("a", "2")]
    assert noted == {"best_score": 8.0}


def test_fewer_than_k_leave_nothing_and_log_nothing() -> None:
    run, noted = handles()
    assert TopAcrossGroups(k=4)([scored(1), scored(2)], run) == []
    assert noted == {}


@pytest.mark.parametrize("select", [BestOfGroup(), TopAcrossGroups(k=3)])
def test_ties_fall_evenly_and_depend_on_seed_and_state_alone(
    select: BestOfGroup | TopAcrossGroups,
) -> None:
    """600 steps of three equals: each is kept about 200 times (sd 11.5); one state keeps the same one."""
    run, _ = handles(seed=1)
    kept = [kept_texts(select([scored(1, 1, 1)], run))[0][0] for _ in range(600)]
    counts = Counter(kept)
    assert set(counts) == {"0", "1", "2"}
    assert all(abs(n - 200) < 58 for n in counts.values()), counts
    assert run.state == {"selections": 600.0}
    resumed, _ = handles(seed=1, state={"selections": 400.0})
    assert [kept_texts(select([scored(1, 1, 1)], resumed))[0][0] for _ in range(200)] == kept[400:]
    other, _ = handles(seed=2)
    assert [kept_texts(select([scored(1, 1, 1)], other))[0][0] for _ in range(600)] != kept


def best_of(law: np.ndarray, n: int) -> np.ndarray:
    """P_n by the order of the completions, worst first."""
    below = np.concatenate([[0.0], law.cumsum()])
    return below[1:] ** n - below[:-1] ** n


def test_the_law_of_the_best_and_its_distance() -> None:
    """(½, ¼, ¼) worst first, n = 2: F = (½, ¾, 1), P = (¼, 5/16, 7/16). All 16 pairs of 4 draws say so."""
    law = np.array([0.5, 0.25, 0.25])
    assert best_of(law, 2).tolist() == [1 / 4, 5 / 16, 7 / 16]
    draws = [0, 0, 1, 2]
    groups = [scored(float(a), float(b)) for a in draws for b in draws]
    out = BestOfGroup()(groups, handles()[0])
    counts = Counter(g.completions[0].marks["score"] for g in out)
    assert [counts[s] / 16 for s in (0.0, 1.0, 2.0)] == [1 / 4, 5 / 16, 7 / 16]


@pytest.mark.parametrize("n", [1, 2, 5, 16])
def test_what_is_known_of_the_best_of_n(n: int) -> None:
    """n = 1 is the identity; best of best is best of the product, KL ≤ log n − (n − 1) / n, wins n/(n+1)."""
    rng = np.random.default_rng(3)
    law = rng.dirichlet(np.ones(9))
    found = best_of(law, n)
    assert found.sum() == pytest.approx(1, abs=1e-12)
    assert best_of(law, 1) == pytest.approx(law)
    assert best_of(found, 3) == pytest.approx(best_of(law, 3 * n), abs=1e-12)
    bound = math.log(n) - (n - 1) / n
    assert float((found * np.log(found / law)).sum()) <= bound + 1e-12
    fine = np.full(20_000, 1 / 20_000)
    finer = best_of(fine, n)
    assert float((finer * np.log(finer / fine)).sum()) == pytest.approx(bound, abs=1e-3)
    wins = float((finer * (fine.cumsum() - fine / 2)).sum())
    assert wins == pytest.approx(n / (n + 1), abs=1e-4)
