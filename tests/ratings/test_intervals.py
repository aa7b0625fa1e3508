"""Intervals hold the truth as often as they say; ranks, anchors, controls; what cannot be asked."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from scipy.special import expit

from battle_draws import BETA, NAMES, drawn, met
from trueup.errors import TrueupError
from trueup.ratings.battles import Battle
from trueup.ratings.design import rows_of_battles
from trueup.ratings.elo import SCALE, elo_points
from trueup.ratings.fit import Ratings, fit_ratings
from trueup.ratings.intervals import agreement
from trueup.ratings.likelihood import maximise

DRAWS = 500


def coverage(draw: Callable[[np.random.Generator], list[Battle]], truth: np.ndarray, **how: object) -> float:
    """How often the 95 % interval of a model holds its true rating, over models and draws."""
    points = dict(zip(NAMES, elo_points(truth), strict=True))
    hits = 0
    for seed in range(DRAWS):
        found = fit_ratings(draw(np.random.default_rng(seed)), **how)
        hits += sum(m.low <= points[m.model] <= m.high for m in found.models)
    return hits / (DRAWS * len(NAMES))


@pytest.mark.parametrize("intervals", ["sandwich", "bootstrap"])
def test_intervals_hold_the_truth(intervals: str) -> None:
    how = {"intervals": intervals, "resamples": 150}
    assert 0.93 <= coverage(lambda rng: drawn(rng, 40, named=False), BETA, **how) <= 0.97


def marginal(spread: float) -> np.ndarray:
    """What ratings estimate where models differ from prompt to prompt: the fit to the average win rates.

    Two models' difference is normal with variance 2 `spread`² over prompts; its mean σ by quadrature.
    """
    node, weight = np.polynomial.hermite_e.hermegauss(40)
    share = weight / weight.sum()
    battles = []
    for at, (i, j) in enumerate(combinations(range(len(NAMES)), 2)):
        win = float(share @ expit(BETA[i] - BETA[j] + spread * math.sqrt(2) * node))
        battles.append(Battle(a=NAMES[i], b=NAMES[j], win=win, prompt=str(at)))
    found = {m.model: m.beta for m in fit_ratings(battles).models}
    return np.array([found[name] for name in NAMES])


def test_intervals_over_prompts_hold_the_truth_where_those_over_battles_do_not() -> None:
    truth = marginal(1.5)
    assert np.abs(truth).max() < 0.7 * np.abs(BETA).max(), "prompts that differ even out the averages"
    assert 0.93 <= coverage(lambda rng: drawn(rng, 40, spread=1.5), truth) <= 0.97
    how = {"intervals": "bootstrap", "resamples": 150}
    assert 0.93 <= coverage(lambda rng: drawn(rng, 40, spread=1.5), truth, **how) <= 0.97
    assert coverage(lambda rng: drawn(rng, 40, spread=1.5, named=False), truth) < 0.91


def test_the_bootstrap_agrees_with_the_sandwich() -> None:
    battles = drawn(np.random.default_rng(5), 100, ties=0.2)
    first = fit_ratings(battles)
    second = fit_ratings(battles, intervals="bootstrap", resamples=2000)
    again = fit_ratings(battles, intervals="bootstrap", resamples=2000)
    assert second.models == again.models, "the same seed, the same bits"
    for one, two in zip(first.models, second.models, strict=True):
        assert one.beta == two.beta
        assert two.standard_error == pytest.approx(one.standard_error, rel=0.08)
        assert (two.low, two.high) == pytest.approx((one.low, one.high), abs=0.25 * one.standard_error)


def test_bootstrap_of_ties_by_a_model_of_their_own() -> None:
    battles = drawn(np.random.default_rng(6), 80, ties=0.2)
    for rule in ("davidson", "rao-kupper"):
        found = fit_ratings(battles, ties=rule, intervals="bootstrap", resamples=200)
        plain = fit_ratings(battles, ties=rule)
        for one, two in zip(found.models, plain.models, strict=True):
            assert one.standard_error == pytest.approx(two.standard_error, rel=0.25)


def test_resamples_without_a_maximum_are_counted_and_too_many_refused() -> None:
    battles = met("x", "y", 7, 1)  # (7/8)^8 = .344 of the resamples hold no loss of x.
    with pytest.raises(TrueupError, match="resamples leave the ratings without") as caught:
        fit_ratings(battles, intervals="bootstrap", resamples=400)
    assert caught.value.code == "E429"
    share = int(caught.value.reason.split()[0]) / 400
    assert share == pytest.approx(0.344, abs=0.07)
    kept = fit_ratings(battles, intervals="bootstrap", resamples=400, alpha=0.1)
    assert kept.resamples_failed == 0
    # (1 - 5/45)^45 = .005 of these, which may be left out: (40/45)^45 = .00499.
    some = fit_ratings(met("x", "y", 40, 5), intervals="bootstrap", resamples=2000)
    assert 0 < some.resamples_failed < 20


@pytest.mark.parametrize("intervals", ["sandwich", "bootstrap"])
def test_battles_that_all_agree_leave_an_interval(intervals: str) -> None:
    """Three ties: H = 3/4, M = (3/7)², so the difference has the variance (4/7)², t with 2 degrees 4.3027."""
    ties = [Battle(a="x", b="y", win=0.5), Battle(a="y", b="x", win=0.5), Battle(a="x", b="y", win=0.5)]
    found = fit_ratings(ties, intervals=intervals)
    half = SCALE * 4.302653 * (4 / 7) / 2  # of one model around the average of two
    for model in found.models:
        assert (model.rating, model.low, model.high) == pytest.approx((1000, 1000 - half, 1000 + half))
        assert (model.rank, model.rank_worst) == (1, 2)
    assert found.difference("x", "y")[1:] == pytest.approx((-2 * half, 2 * half))
    many = fit_ratings([Battle(a="x", b="y", win=0.5)] * 100).models[0]
    assert many.standard_error == pytest.approx(SCALE * (1 / (104 * 0.25)) / 2)


def test_a_win_for_each_order_of_every_prompt_is_no_certainty_either() -> None:
    """A judge that prefers what stands first: within each prompt the two battles cancel."""
    swapped = [Battle(a="x", b="y", win=w, prompt=p) for p in "123" for w in (1.0, 0.0)]
    model = fit_ratings(swapped).models[0]
    assert model.low < 1000 - 100 and model.high > 1000 + 100
    beside = [
        *swapped,
        *(Battle(a="y", b="z", win=w, prompt=p) for p, w in zip("123", (1, 0, 1), strict=True)),
    ]
    assert all(m.low < m.rating < m.high for m in fit_ratings(beside).models)


def test_battles_that_differ_are_not_touched() -> None:
    rows = rows_of_battles(drawn(np.random.default_rng(9), 40), ties="half", alpha=0.0, controls=())
    assert not agreement(rows, maximise(rows.design, rows.weights[None]).parameters[0]).any()


# --------------------------------------------------------------------------------------- ranks and anchors


def test_ranks_count_whole_intervals() -> None:
    found = fit_ratings(drawn(np.random.default_rng(7), 150))
    for m in found.models:
        assert m.rank == 1 + sum(other.low > m.high for other in found.models)
        assert m.rank_worst == len(found.models) - sum(other.high < m.low for other in found.models)
    ranks = [(m.model, m.rank, m.rank_worst) for m in found.models]
    assert ranks[0] == ("a", 1, 1) and ranks[-1] == ("e", 5, 5), "apart from each other by a lot"
    close = {rank for _, rank, _ in ranks[2:4]}
    assert close == {3} and {worst for *_, worst in ranks[2:4]} == {4}, "c and d overlap"


def test_an_anchor_moves_the_scale_and_no_rank() -> None:
    battles = drawn(np.random.default_rng(8), 60)
    plain, anchored = fit_ratings(battles), fit_ratings(battles, anchor="c")
    (fixed,) = [m for m in anchored.models if m.model == "c"]
    assert (fixed.rating, fixed.low, fixed.high) == (1000.0, 1000.0, 1000.0)
    for one, two in zip(plain.models, anchored.models, strict=True):
        assert (one.model, one.rank, one.rank_worst) == (two.model, two.rank, two.rank_worst)
    best = anchored.models[0]
    ahead, low, high = plain.difference(best.model, "c")
    assert (best.rating - 1000, best.low - 1000, best.high - 1000) == pytest.approx((ahead, low, high))
    assert plain.difference("c", best.model)[0] == pytest.approx(-ahead)


# ------------------------------------------------------------------------------------------------ controls


def biased(rng: np.random.Generator, prompts: int, *, length: float, position: float) -> list[Battle]:
    """Battles whose judge likes long answers and the first shown; a writes the shortest, e the longest."""
    found = []
    for battle in drawn(rng, prompts):
        i, j = NAMES.index(battle.a), NAMES.index(battle.b)
        sizes = [float(rng.integers(50, 150) + 60 * k) for k in (i, j)]
        first = rng.random() < 0.5
        odds = BETA[i] - BETA[j]
        odds += length * (sizes[0] - sizes[1]) / sum(sizes) + position * (1 if first else -1)
        found.append(
            replace(
                battle,
                win=float(rng.random() < expit(odds)),
                lengths=(sizes[0], sizes[1]),
                first="a" if first else "b",
            )
        )
    return found


def off(found: Ratings) -> float:
    """The largest error of a rating, in nats."""
    return max(abs(m.beta - BETA[NAMES.index(m.model)]) for m in found.models)


def test_controls_take_out_what_a_judge_likes_beside_quality() -> None:
    battles = biased(np.random.default_rng(9), 1500, length=3.0, position=0.5)
    naive, both = fit_ratings(battles), fit_ratings(battles, controls=("length", "position"))
    assert off(naive) > 0.4 and off(both) < 0.12
    length, position = both.effects
    assert (length.name, position.name) == ("length", "position")
    share = [(b.lengths[0] - b.lengths[1]) / sum(b.lengths) for b in battles if b.lengths]
    assert length.unit == pytest.approx(math.sqrt(np.mean(np.square(share))))


def test_intervals_of_controls_hold_the_truth() -> None:
    held = np.zeros(2)
    for seed in range(100):
        battles = biased(np.random.default_rng(seed), 60, length=3.0, position=0.5)
        length, position = fit_ratings(battles, controls=("length", "position")).effects
        held += [
            length.low < SCALE * 3.0 * length.unit < length.high,
            position.low < SCALE * 0.5 < position.high,
        ]
    # 95 of 100 are due, with a standard error of 2.2.
    assert (held >= 89).all() and held.sum() < 200


def test_controls_do_not_mind_who_is_called_a() -> None:
    battles = biased(np.random.default_rng(10), 40, length=2.0, position=0.3)
    turned = [
        replace(
            b,
            a=b.b,
            b=b.a,
            win=1 - b.win,
            lengths=b.lengths and (b.lengths[1], b.lengths[0]),
            first="b" if b.first == "a" else "a",
        )
        for b in battles
    ]
    one, two = (fit_ratings(some, controls=("length", "position")) for some in (battles, turned))
    for x, y in zip(one.effects, two.effects, strict=True):
        assert (x.points, x.low, x.high) == pytest.approx((y.points, y.low, y.high), abs=1e-8)
    assert [m.beta for m in one.models] == pytest.approx([m.beta for m in two.models], abs=1e-10)


def test_controls_equal_a_logistic_regression_with_these_columns() -> None:
    from ratings.test_fit import regression

    battles = biased(np.random.default_rng(11), 80, length=2.0, position=0.3)
    found = fit_ratings(battles, controls=("length", "position"))
    unit = found.effects[0].unit
    columns = np.array(
        [
            [(b.lengths[0] - b.lengths[1]) / sum(b.lengths) / unit, 1.0 if b.first == "a" else -1.0]
            for b in battles
            if b.lengths
        ]
    )
    theirs = regression(battles, list(NAMES), columns)
    ours = {m.model: m.beta for m in found.models}
    assert [ours[name] for name in NAMES] == pytest.approx(theirs[:5], abs=1e-6)
    assert [e.points / SCALE for e in found.effects] == pytest.approx(theirs[5:], abs=1e-6)


def test_a_bootstrap_with_controls_agrees_with_the_sandwich() -> None:
    battles = biased(np.random.default_rng(12), 100, length=2.0, position=0.3)
    how = {"controls": ("length", "position")}
    one = fit_ratings(battles, **how)
    two = fit_ratings(battles, **how, intervals="bootstrap", resamples=300)
    for x, y in zip(one.effects, two.effects, strict=True):
        assert (y.high - y.low) == pytest.approx(x.high - x.low, rel=0.2)


@pytest.mark.parametrize(
    ("change", "control", "says"),
    [
        ({"lengths": None}, "length", "lack `lengths`"),
        ({"first": ""}, "position", "lack `first`"),
        ({"lengths": (5.0, 5.0)}, "length", "all lengths are equal"),
    ],
)
def test_a_control_must_be_known_and_vary(change: dict, control: str, says: str) -> None:
    battles = [replace(b, **change) for b in biased(np.random.default_rng(13), 10, length=1.0, position=0.0)]
    with pytest.raises(TrueupError, match=says) as caught:
        fit_ratings(battles, controls=(control,))
    assert caught.value.code == "E425"


def test_a_position_that_is_the_model_cannot_be_told_from_it() -> None:
    battles = [replace(b, first="a") for b in met("x", "y", 6, 4)]
    with pytest.raises(TrueupError, match="cannot be told apart") as caught:
        fit_ratings(battles, controls=("position",))
    assert caught.value.code == "E425"


def test_a_control_that_decides_every_battle_has_no_finite_worth() -> None:
    battles = [
        replace(b, lengths=(9.0, 4.0 + k % 3) if b.win else (4.0 + k % 3, 9.0))
        for k, b in enumerate(drawn(np.random.default_rng(14), 20))
    ]
    with pytest.raises(TrueupError, match="decides every battle") as caught:
        fit_ratings(battles, controls=("length",))
    assert caught.value.code == "E423"
    # The prior holds the models alone, and is proposed only where that is enough.
    assert "leave `--control` out" in caught.value.remedy and "--prior" not in caught.value.remedy
    with pytest.raises(TrueupError, match="E423"):
        fit_ratings(battles, controls=("length",), alpha=0.1)
    assert fit_ratings(battles).num_battles == len(battles)


def test_a_prior_is_proposed_where_it_bounds_the_ratings() -> None:
    """One model wins whatever it is shown as, but for one battle that the length alone explains."""
    won = [Battle(a="x", b="y", win=1.0, lengths=(5.0, 4.0 + k), prompt=f"p{k}") for k in range(4)]
    battles = [*won, Battle(a="x", b="y", win=0.0, lengths=(1.0, 9.0), prompt="p9")]
    with pytest.raises(TrueupError, match=r"E423 .*or give a prior: `--prior 0.1`"):
        fit_ratings(battles, controls=("length",))
    assert fit_ratings(battles, controls=("length",), alpha=0.1).effects[0].points > 0


def test_one_battle_is_one_battle() -> None:
    with pytest.raises(TrueupError, match=r"E426 — there is one battle: nothing says"):
        fit_ratings([Battle(a="x", b="y", win=0.5)], alpha=0.1)


# ----------------------------------------------------------------------------------- what cannot be asked


def test_questions_without_an_answer() -> None:
    battles = met("x", "y", 3, 2)
    one_prompt = [replace(b, prompt="p") for b in battles]
    soft = [*battles, Battle(a="x", b="y", win=0.7)]
    for code, arguments in {
        "E424": ([], {}),
        "E426": (one_prompt, {}),
        "E427": (soft, {"ties": "davidson"}),
        "E428": (battles, {"anchor": "z"}),
    }.items():
        with pytest.raises(TrueupError) as caught:
            fit_ratings(arguments[0], **arguments[1])
        assert caught.value.code == code


def test_a_probability_counts_as_that_share_of_a_win() -> None:
    # Σ s = 3 + .6 of 6 battles: Δ = log(3.6/2.4).
    found = fit_ratings([*met("x", "y", 3, 2), Battle(a="y", b="x", win=0.4)])
    assert found.models[0].beta - found.models[1].beta == pytest.approx(math.log(1.5), abs=1e-10)
