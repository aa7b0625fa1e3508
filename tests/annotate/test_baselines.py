"""Baselines by hand: what a completion's reward is compared with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hand_batches import group, handles
from trueup.annotate.baselines import AgainstGreedy, Baseline, GroupCentred, GroupNormalised, LeaveOneOut
from trueup.engine.groups import Group
from trueup.engine.method import Handles
from trueup.errors import TrueupError

SCORES = st.lists(st.floats(-5, 5), min_size=2, max_size=8)


def rewarded(*rewards: Sequence[float]) -> Group:
    """One group; each completion's rewards token by token."""
    return group(*[{"rewards": list(r)} for r in rewards])


def scored(*scores: float) -> Group:
    return group(*[1] * len(scores), marks=[{"score": s} for s in scores])


def advantages(groups: Sequence[Group]) -> list[list[float]]:
    return [[c.marks["advantage"] for c in g.completions] for g in groups]


TWO = [rewarded([0.5, 0.5], [1, 2]), rewarded([2.0])]
"R = (1, 3) and (2), mean 2."


def test_without_a_baseline_the_advantage_is_the_summed_reward() -> None:
    run, noted = handles()
    assert advantages(Baseline(kind="none")(TWO, run)) == [[1, 3], [2]]
    assert noted["baseline"] == 0
    assert noted["advantage/std"] == pytest.approx((2 / 3) ** 0.5)
    assert noted["advantage/zero"] == 0
    assert run.state == {}


def test_the_steps_mean_by_hand() -> None:
    """b = (1 + 3 + 2) / 3 = 2: (−1, 1) and (0); one of three has no signal."""
    run, noted = handles()
    assert advantages(Baseline(kind="step")(TWO, run)) == [[-1, 1], [0]]
    assert noted["baseline"] == 2
    assert noted["advantage/zero"] == pytest.approx(1 / 3)


def test_the_moving_mean_uses_earlier_steps_alone() -> None:
    """Steps with means 2, 2, 5: b = 0, then 2, then .9 · 2 + .1 · 2 = 2; it leaves .9 · 2 + .1 · 5 = 2.3."""
    run, noted = handles()
    moving = Baseline(kind="moving", decay=0.9)
    assert advantages(moving(TWO, run)) == [[1, 3], [2]]
    assert advantages(moving(TWO, run)) == [[-1, 1], [0]]
    assert advantages(moving([rewarded([5.0])], run)) == [[3]]
    assert noted["baseline"] == 2
    assert run.state["baseline"] == pytest.approx(2.3)


def test_leave_one_out_by_hand() -> None:
    """R = (1, 2, 6): the others' means are (4, 3.5, 1.5), so A = (−3, −1.5, 4.5) = 3/2 · (R − 3)."""
    run, noted = handles()
    out = LeaveOneOut()([rewarded([1.0], [0.5, 1.5], [6.0])], run)
    assert advantages(out) == [[-3, -1.5, 4.5]]
    assert noted["baseline"] == 3


@given(SCORES)
def test_leave_one_out_is_the_centred_reward_times_k_over_k_minus_1(scores: list[float]) -> None:
    (found,) = advantages(LeaveOneOut()([rewarded(*[[s] for s in scores])], handles()[0]))
    k, r = len(scores), np.array(scores)
    assert found == pytest.approx((k / (k - 1) * (r - r.mean())).tolist(), abs=1e-12)


@pytest.mark.parametrize("stage", [LeaveOneOut(), GroupNormalised()])
def test_one_completion_has_no_others(stage: LeaveOneOut | GroupNormalised) -> None:
    alone = group({"rewards": [1.0]}, marks=[{"score": 1.0}])
    with pytest.raises(TrueupError) as raised:
        stage([alone], handles()[0])
    assert raised.value.code == "E741"


@pytest.mark.parametrize(
    ("std", "expected"),
    [
        ("sample", 0.5 / (0.5**0.5 + 1e-4)),  # s² = (.25 + .25) / 1 = .5: about .7070
        ("population", 0.5 / (0.5 + 1e-4)),  # σ² = (.25 + .25) / 2 = .25: about .9998
        ("none", 0.5),
    ],
)
def test_two_scores_by_hand(std: str, expected: float) -> None:
    """Scores (1, 0), mean .5."""
    run, noted = handles()
    out = GroupNormalised(std=std)([scored(1.0, 0.0)], run)  # pyright: ignore[reportArgumentType]
    assert advantages(out) == [[pytest.approx(expected, abs=1e-12), pytest.approx(-expected, abs=1e-12)]]
    assert noted["baseline"] == 0.5


def test_equal_scores_give_nothing() -> None:
    run, noted = handles()
    assert advantages(GroupNormalised()([scored(0.3, 0.3, 0.3), scored(1.0, 0.0)], run))[0] == [0, 0, 0]
    assert noted["advantage/zero"] == pytest.approx(3 / 5)


@given(SCORES, st.floats(0.1, 10), st.floats(-5, 5))
def test_normalised_advantages_sum_to_nothing_and_ignore_scale_and_shift(
    scores: list[float], scale: float, shift: float
) -> None:
    assume(np.ptp(scores) > 1e-3)
    stage, run = GroupNormalised(epsilon=0.0), handles()[0]
    (plain,) = advantages(stage([scored(*scores)], run))
    (moved,) = advantages(stage([scored(*[scale * s + shift for s in scores])], run))
    assert sum(plain) == pytest.approx(0, abs=1e-9)
    assert moved == pytest.approx(plain, abs=1e-6)


def test_against_greedy_by_hand() -> None:
    """R = (1, 3) against 3, and (2) against −1: A = (−2, 0) and (3); the stages log nothing."""

    class Twice:
        reads: frozenset[str] = frozenset()
        writes: frozenset[str] = frozenset({"rewards"})

        def __call__(self, groups: list[Group], handles: Handles) -> list[Group]:
            handles.record({"score": 99.0})
            doubled = [[c.with_columns(rewards=2 * c.columns["half"]) for c in g.completions] for g in groups]
            return [g.with_completions(cs) for g, cs in zip(groups, doubled, strict=True)]

    def greedy(groups: Sequence[Group], handles: Handles) -> list[Group]:
        return [group({"half": [0.5, 1.0]}), group({"half": [-0.5]})]

    run, noted = handles()
    out = AgainstGreedy(greedy=greedy, stages=(Twice(),))(TWO, run)
    assert advantages(out) == [[-2, 0], [3]]
    assert noted["baseline"] == 1
    assert "score" not in noted


def test_a_groups_mean_score_is_taken_off_its_last_rewards() -> None:
    """Scores (3, 1), mean 2: the last rewards lose 2, the penalties before them stay."""
    made = group({"rewards": [-0.25, 2.75]}, {"rewards": [-0.5, 1.0]}, marks=[{"score": 3.0}, {"score": 1.0}])
    run, noted = handles()
    (out,) = GroupCentred()([made], run)
    assert [c.columns["rewards"].tolist() for c in out.completions] == [[-0.25, 0.75], [-0.5, -1.0]]
    assert [c.columns["rewards"].tolist() for c in made.completions] == [[-0.25, 2.75], [-0.5, 1.0]]
    assert noted == {"baseline": 2.0}
    with pytest.raises(TrueupError, match="E741"):
        GroupCentred()([scored(1.0)], run)
