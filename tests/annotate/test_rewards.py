"""Scores, per-token rewards and the adaptive coefficient by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hand_batches import column, group, handles
from trueup.annotate.rewards import AdaptiveKL, KLReward, sequence_kl
from trueup.annotate.scores import Finished, MissingEos, Scores, lowered, masked


def sampled(old: list[float], ref: list[float], score: float = 0.0) -> object:
    return group({"old_logprobs": old, "ref_logprobs": ref}, marks=[{"score": score}])


def test_the_penalty_is_on_every_token_and_the_score_on_the_last() -> None:
    """β = .1: −.1 · (−1 + 1.5) = −.05; −.1 · (−2 + 1) = .1; .1 · … + 2 on the last: −.1 · 0 + 2."""
    run, noted = handles()
    out = KLReward(beta=0.1)([sampled([-1, -2, -3], [-1.5, -1, -3], score=2.0)], run)
    assert column(out, "rewards")[0] == pytest.approx([-0.05, 0.1, 2.0], abs=1e-12)
    assert noted == pytest.approx({"kl": -0.5, "beta": 0.1, "reward": 2.05})


def test_the_penalties_sum_to_minus_beta_times_the_log_ratio() -> None:
    """Σ_t r_t = score − β · h(y), h = Σ log π_old − Σ log ρ."""
    rng = np.random.default_rng(0)
    old, ref = rng.normal(size=(2, 9))
    made = sampled(old.tolist(), ref.tolist(), score=0.7)
    out = KLReward(beta=0.3)([made], handles()[0])
    assert sum(column(out, "rewards")[0]) == pytest.approx(0.7 - 0.3 * (old.sum() - ref.sum()), abs=1e-12)
    assert sequence_kl(made) == [pytest.approx(old.sum() - ref.sum())]


def test_beta_comes_from_the_state_once_a_controller_has_moved_it() -> None:
    run, _ = handles()
    step, made = KLReward(beta=0.1), [sampled([-1], [-2])]
    assert column(step(made, run), "rewards")[0] == pytest.approx([-0.1])
    run.state["beta"] = 0.5
    assert column(step(made, run), "rewards")[0] == pytest.approx([-0.5])


def test_the_inputs_are_left_as_they_were() -> None:
    made = sampled([-1, -2], [-1.5, -1], score=2.0)
    KLReward(beta=0.1)([made], handles()[0])
    assert column([made], "old_logprobs") == [[-1, -2]]
    assert column([made], "ref_logprobs") == [[-1.5, -1]]


def test_the_adaptive_step_by_hand() -> None:
    """β = .2, KL = 9, target 6: error clip(9/6 − 1, ±.2) = .2; n = 256, horizon 10,000:
    .2 · (1 + .2 · 256 / 10000) = .2 · 1.00512 = .201024."""
    run, _ = handles()
    run.state["beta"] = 0.2
    AdaptiveKL(target=6.0, horizon=10_000)([sampled([-1.0], [-10.0]) for _ in range(256)], run)
    assert run.state["beta"] == pytest.approx(0.201024, abs=1e-12)


@pytest.mark.parametrize(("kl", "error"), [(6.0, 0.0), (6.6, 0.1), (60.0, 0.2), (5.4, -0.1), (-9.0, -0.2)])
def test_the_adaptive_step_is_proportional_within_a_fifth(kl: float, error: float) -> None:
    run, _ = handles()
    run.state["beta"] = 1.0
    AdaptiveKL(target=6.0, horizon=100)([sampled([0.0], [-kl])] * 10, run)
    assert run.state["beta"] == pytest.approx(1 + error * 10 / 100, abs=1e-12)


def two(judged: object) -> list[list[float]]:
    return [[0.5, 3.0]]


def test_a_completion_without_end_is_worth_less_than_one_with_it_and_the_rates_are_logged() -> None:
    """Of two completions of 2 and 4 tokens the second was cut off: min(3, .5) − 1."""
    run, noted = handles(judge=two)
    (out,) = Scores(missing_eos=-1.0)([group(2, 4, finished=[True, False])], run)
    assert [c.marks["score"] for c in out.completions] == [0.5, -0.5]
    assert noted == {"score": 1.75, "score/trained": 0.0, "eos_rate": 0.5, "completion_length": 3.0}


@pytest.mark.parametrize("rule", [None, "mask"])
def test_without_a_rule_the_judges_score_stays(rule: MissingEos) -> None:
    run, noted = handles(judge=two)
    (out,) = Scores(missing_eos=rule)([group(2, 4, finished=[True, False])], run)
    assert [c.marks["score"] for c in out.completions] == [0.5, 3.0]
    assert noted["eos_rate"] == 0.5 and noted["score/trained"] == noted["score"] == 1.75


@pytest.mark.parametrize("scale", [1.0, 10.0, 1e4])
@pytest.mark.parametrize("shift", [0.0, -5.0, -1e4, 7.0])
def test_not_finishing_is_never_better_than_finishing_under_any_judge(scale: float, shift: float) -> None:
    """Scores at any scale, unfinished ones the judge's favourites; moving the judge moves nothing else."""
    raw = np.random.default_rng(0).normal(size=(50, 6))
    ended = np.random.default_rng(1).random((50, 6)) < 0.6
    groups = [group(*[1] * 6, finished=list(map(bool, row))) for row in ended]
    judged = scale * (raw + 2 * ~ended) + shift
    found = np.array(lowered(groups, judged.tolist(), -1.0))
    np.testing.assert_array_equal(found[ended], judged[ended])
    for row, mine, end in zip(found, judged, ended, strict=True):
        if end.any():
            assert (row[~end] <= mine[end].min() - 1).all()
        else:
            np.testing.assert_allclose(row, mine - 1, rtol=1e-12)
    unmoved = np.array(lowered(groups, (judged - shift).tolist(), -1.0))
    np.testing.assert_allclose(found - shift, unmoved, atol=1e-9 * max(1, abs(shift), scale))


def test_the_judge_goes_on_deciding_where_nothing_ended() -> None:
    run, noted = handles(judge=two)
    (out,) = Scores()([group(2, 4, finished=[False, False])], run)
    assert [c.marks["score"] for c in out.completions] == [-0.5, 2.0] and noted["eos_rate"] == 0


def test_masked_completions_leave_and_are_counted() -> None:
    run, noted = handles()
    groups = [group(2, 4, 3, finished=[True, False, True]), group(2, 4, finished=[False, False])]
    (left,) = Finished()(groups, run)
    assert [c.num_tokens for c in left.completions] == [2, 3] and noted == {"masked": 0.6}
    assert masked("mask") == (Finished(),) and masked(None) == masked(-1.0) == ()


def test_the_score_stands_on_the_end_token_for_any_length() -> None:
    """1,000 random lengths: the whole score is in the last reward, wherever that is."""
    rng = np.random.default_rng(0)
    for length in rng.integers(1, 40, 1000):
        zeros = [0.0] * int(length)
        (rewards,) = column(
            KLReward(beta=1.0)([sampled(zeros, zeros, score=math.pi)], handles()[0]), "rewards"
        )
        assert rewards[:-1] == zeros[1:]
        assert rewards[-1] == math.pi
