"""Ratings against hand arithmetic, other implementations, and the truth of simulations."""

from __future__ import annotations

import gzip
import json
import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import choix
import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from battle_draws import NAMES, drawn, met
from shared_data import shared
from trueup.errors import TrueupError
from trueup.ratings.battles import Battle, ModelScore, battles_from_scores
from trueup.ratings.elo import SCALE, elo_over_orders, elo_points, expected_score, online_elo
from trueup.ratings.fit import Ratings, fit_ratings
from trueup.ratings.likelihood import TieRule, log_likelihood, slopes
from trueup.ratings.style import Style

TIE_RULES: tuple[TieRule, ...] = ("half", "davidson", "rao-kupper")


def betas(ratings: Ratings) -> dict[str, float]:
    """Each model's log-odds."""
    return {m.model: m.beta for m in ratings.models}


def lead(ratings: Ratings, a: str = "x", b: str = "y") -> float:
    """How far a is before b, in nats."""
    return betas(ratings)[a] - betas(ratings)[b]


@pytest.fixture(scope="module")
def arena() -> list[Battle]:
    """15 models on 300 prompts: a battle of every two scores of a prompt."""
    scores = []
    for path in sorted(shared("arena_bench_v1/judgment").glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for line in file:
                row = json.loads(line)
                name = path.name.removesuffix(".jsonl.gz")
                scores.append(ModelScore(prompt=row["question_id"], model=name, score=row["score"]))
    found = battles_from_scores(scores)
    assert len(found.battles) == 30_966 and found.left_out == {"scores that are null": 39}
    return list(found.battles)


# ------------------------------------------------------------------------------------- by hand, two models


def test_two_models() -> None:
    # 7 wins, 3 losses: log-odds log(7/3) = .847298, 147.1907 points; each half of it from 1000.
    found = fit_ratings(met("x", "y", 7, 3))
    assert lead(found) == pytest.approx(math.log(7 / 3), abs=1e-10)
    assert [m.rating for m in found.models] == pytest.approx([1073.5954, 926.4046], abs=1e-4)


def test_two_models_with_ties() -> None:
    # w₁ 6, w₂ 3, t 2. Half a win each: log(7/4). Davidson: log(6/3), ν = 2/√18. Rao and Kupper: σ(Δ-η) = 6/11
    # and σ(-Δ-η) = 3/11, so Δ - η = log(6/5) and -Δ - η = log(3/8): Δ = ½ log(48/15), η = -½ log(18/40).
    battles = met("x", "y", 6, 3, 2)
    assert lead(fit_ratings(battles)) == pytest.approx(math.log(7 / 4), abs=1e-10)
    davidson = fit_ratings(battles, ties="davidson")
    assert lead(davidson) == pytest.approx(math.log(2), abs=1e-10)
    assert davidson.tie_parameter == pytest.approx(2 / math.sqrt(18), abs=1e-10)
    rao_kupper = fit_ratings(battles, ties="rao-kupper")
    assert lead(rao_kupper) == pytest.approx(math.log(48 / 15) / 2, abs=1e-10)
    assert rao_kupper.tie_parameter == pytest.approx(math.log(40 / 18) / 2, abs=1e-10)


def test_without_ties_the_three_rules_are_one() -> None:
    battles = met("x", "y", 6, 3) + met("y", "z", 5, 4) + met("z", "x", 2, 7)
    plain = fit_ratings(battles)
    for rule in ("davidson", "rao-kupper"):
        other = fit_ratings(battles, ties=rule)
        assert other.models == plain.models
        assert other.tie_parameter == 0.0


def test_the_interval_of_two_models_by_hand() -> None:
    # n = 40, p = 3/4: H = n p q = 7.5 = Σ g², so the sandwich gives Δ the variance 40/39 · 1/7.5 = .136752;
    # each β is half of Δ, so s = ½ √.136752 = .184900 nats = 32.1205 points; with t₃₉(.975) = 2.022691 the
    # half width is 64.9698.
    found = fit_ratings(met("x", "y", 30, 10))
    best = found.models[0]
    assert best.standard_error == pytest.approx(32.1205, abs=1e-3)
    assert best.high - best.rating == pytest.approx(64.9698, abs=1e-3)
    ahead, low, high = found.difference("x", "y")
    assert ahead == pytest.approx(SCALE * math.log(3))
    assert (high - low) / 2 == pytest.approx(2 * 64.9698, abs=2e-3)


def test_prompts_not_battles_are_what_was_drawn() -> None:
    # The 40 battles of before, each judged four times on its prompt: no more is known than before.
    once = [replace(b, prompt=str(k)) for k, b in enumerate(met("x", "y", 30, 10))]
    four = [b for b in once for _ in range(4)]
    first, second = fit_ratings(once), fit_ratings(four)
    assert second.num_battles == 160 and second.num_clusters == 40 and second.cluster == "prompt"
    assert second.models[0].standard_error == pytest.approx(first.models[0].standard_error, rel=1e-12)
    alone = fit_ratings([replace(b, prompt="") for b in four])
    assert alone.models[0].standard_error < 0.52 * second.models[0].standard_error
    weighted = fit_ratings([replace(b, weight=4.0) for b in once])
    assert weighted.models[0].standard_error == pytest.approx(first.models[0].standard_error, rel=1e-12)


def test_a_prior_by_hand() -> None:
    # x won all 5: with β = ±b and α = ½ the maximum of 5 log σ(2b) - b² has 5 (1 - σ(2b)) = b, b = .8168.
    found = fit_ratings(met("x", "y", 5, 0), alpha=0.5)
    b = lead(found) / 2
    assert 5 * (1 - expit(2 * b)) == pytest.approx(b, abs=1e-10)
    assert b == pytest.approx(0.8168, abs=1e-4)


# ---------------------------------------------------------------------------------- existence (Ford 1957)


def test_models_that_never_met_cannot_be_compared() -> None:
    battles = met("x", "y", 3, 2) + met("u", "v", 1, 1)
    with pytest.raises(TrueupError, match="no battle links u, v with x, y") as caught:
        fit_ratings(battles)
    assert caught.value.code == "E421" and "--prior" in caught.value.remedy
    assert lead(fit_ratings(battles, alpha=0.1), "x", "u") > 0


def test_a_model_that_never_lost_has_no_finite_rating() -> None:
    battles = met("x", "y", 3, 0) + met("x", "z", 2, 0) + met("y", "z", 2, 1)
    with pytest.raises(TrueupError, match="x never lost to or tied with any of the others"):
        fit_ratings(battles)
    tied = [*battles, *met("x", "z", 0, 0, 1)]
    assert math.isfinite(lead(fit_ratings(tied), "x", "z"))


def test_a_cycle_is_enough() -> None:
    found = betas(fit_ratings(met("x", "y", 1, 0) + met("y", "z", 1, 0) + met("z", "x", 1, 0)))
    assert list(found.values()) == pytest.approx([0, 0, 0], abs=1e-12)


@pytest.mark.parametrize("rule", ["davidson", "rao-kupper"])
def test_ties_without_a_beaten_winner_have_no_finite_measure(rule: TieRule) -> None:
    # Strongly connected by its ties, yet ν = t/√(w₁ w₂) is infinite; half a win each is determined.
    battles = met("x", "y", 4, 0, 3)
    with pytest.raises(TrueupError) as caught:
        fit_ratings(battles, ties=rule)
    assert caught.value.code == "E422"
    assert lead(fit_ratings(battles)) == pytest.approx(math.log(5.5 / 1.5), abs=1e-10)
    assert math.isfinite(lead(fit_ratings(battles, ties=rule, alpha=0.1)))
    # x beats y beats z beats x has more wins than ties: determined although nobody beat back directly.
    cycle = [*met("x", "y", 1, 0, 1), *met("y", "z", 1, 0), *met("z", "x", 1, 0)]
    assert fit_ratings(cycle, ties=rule).tie_parameter
    with pytest.raises(TrueupError, match="E422"):
        fit_ratings(met("x", "y", 0, 0, 3), ties=rule, alpha=0.1)


# ------------------------------------------------------------------------------------- what a maximum is


@pytest.mark.parametrize("rule", ["half", "davidson"])
def test_expected_wins_are_observed_wins(rule: TieRule) -> None:
    battles = drawn(np.random.default_rng(0), 60, ties=0.2)
    for m in fit_ratings(battles, ties=rule).models:
        wins = sum(b.win if b.a == m.model else 1 - b.win for b in battles if m.model in (b.a, b.b))
        assert m.wins == pytest.approx(wins) and m.battles == 240
        assert m.expected_wins == pytest.approx(wins, abs=1e-8)


def minorise(battles: Sequence[Battle], steps: int = 3000) -> np.ndarray:
    """Hunter's (2004) MM iteration, w_i <- W_i / Σ_j n_ij / (w_i + w_j), as β with Σ β = 0."""
    names = sorted({b.a for b in battles} | {b.b for b in battles})
    won = np.zeros((len(names), len(names)))
    for b in battles:
        i, j = names.index(b.a), names.index(b.b)
        won[i, j] += b.win
        won[j, i] += 1 - b.win
    strength = np.ones(len(names))
    for _ in range(steps):
        strength = won.sum(axis=1) / ((won + won.T) / (strength[:, None] + strength)).sum(axis=1)
    return np.log(strength) - np.log(strength).mean()


def test_newton_and_mm_agree() -> None:
    battles = drawn(np.random.default_rng(1), 40, ties=0.1)
    found = betas(fit_ratings(battles))
    assert [found[name] for name in NAMES] == pytest.approx(minorise(battles), abs=1e-9)


@pytest.mark.parametrize("rule", TIE_RULES)
def test_slopes_are_derivatives(rule: TieRule) -> None:
    rng = np.random.default_rng(2)
    d, y = rng.normal(size=30), rng.choice([0.0, 0.5, 1.0], 30)
    eta, h = np.full(30, 0.7), 1e-5
    s = slopes(rule, d, eta, y)

    def at(move_d: float, move_eta: float) -> np.ndarray:
        return log_likelihood(rule, d + move_d, eta + move_eta, y)

    assert s.d == pytest.approx((at(h, 0) - at(-h, 0)) / (2 * h), abs=1e-8)
    before, after = slopes(rule, d - h, eta, y), slopes(rule, d + h, eta, y)
    assert s.dd == pytest.approx((before.d - after.d) / (2 * h), abs=1e-8)
    if rule != "half":
        assert s.eta == pytest.approx((at(0, h) - at(0, -h)) / (2 * h), abs=1e-8)
        assert s.de == pytest.approx((before.eta - after.eta) / (2 * h), abs=1e-8)
        low, high = slopes(rule, d, eta - h, y), slopes(rule, d, eta + h, y)
        assert s.ee == pytest.approx((low.eta - high.eta) / (2 * h), abs=1e-8)


@pytest.mark.parametrize("rule", ["davidson", "rao-kupper"])
def test_the_three_ends_are_all_there_is(rule: TieRule) -> None:
    d, eta = np.linspace(-4, 4, 17), np.full(17, 0.4)
    total = sum(np.exp(log_likelihood(rule, d, eta, np.full(17, y))) for y in (0.0, 0.5, 1.0))
    assert total == pytest.approx(np.ones(17), abs=1e-12)


# --------------------------------------------------------------------------------- other implementations


def test_real_battles_agree_with_choix_and_with_a_logistic_regression(arena: list[Battle]) -> None:
    found = betas(fit_ratings(arena))
    names = sorted(found)
    ours = np.array([found[name] for name in names])
    won = np.zeros((15, 15))
    for b in arena:
        i, j = names.index(b.a), names.index(b.b)
        won[i, j] += b.win
        won[j, i] += 1 - b.win
    theirs = choix.ilsr_pairwise_dense(won, max_iter=1000, tol=1e-11)
    assert np.abs(ours - (theirs - theirs.mean())).max() < 1e-6
    assert np.abs(ours - regression(arena, names)).max() < 1e-6


def regression(battles: Sequence[Battle], names: list[str], extra: np.ndarray | None = None) -> np.ndarray:
    """scikit-learn's logistic regression on ±1 columns without intercept, a tie as two half rows."""
    place = {name: k for k, name in enumerate(names)}
    size = len(names)
    x = np.zeros((len(battles), size))
    each = np.arange(len(battles))
    x[each, [place[b.a] for b in battles]] = 1
    x[each, [place[b.b] for b in battles]] = -1
    x = x[:, 1:] if extra is None else np.column_stack([x[:, 1:], extra])  # The first model is 0.
    win = np.array([b.win for b in battles])
    rows, y = np.concatenate([x, x]), np.repeat([1, 0], len(battles))
    weight = np.concatenate([win, 1 - win])
    model = LogisticRegression(
        C=np.inf, fit_intercept=False, tol=1e-12, max_iter=1000, solver="newton-cholesky"
    )
    found = model.fit(rows[weight > 0], y[weight > 0], weight[weight > 0]).coef_[0]
    beta = np.concatenate([[0.0], found[: size - 1]])
    return np.concatenate([beta - beta.mean(), found[size - 1 :]])


def test_expected_wins_are_observed_wins_on_real_battles(arena: list[Battle]) -> None:
    found = fit_ratings(arena)
    assert max(abs(m.wins - m.expected_wins) for m in found.models) < 1e-8
    assert sum(m.wins for m in found.models) == pytest.approx(len(arena))
    assert found.num_clusters == 300


def test_a_prior_is_that_of_choix() -> None:
    battles = met("a", "b", 3, 1) + met("b", "c", 2, 0) + met("c", "d", 4, 1)
    pairs = [(b.a, b.b) if b.win else (b.b, b.a) for b in battles]
    winners = [("abcd".index(winner), "abcd".index(loser)) for winner, loser in pairs]
    theirs = choix.opt_pairwise(4, winners, alpha=0.3, tol=1e-12)
    found = betas(fit_ratings(battles, alpha=0.3))
    assert [found[name] for name in "abcd"] == pytest.approx(theirs, abs=1e-6)


# ------------------------------------------------------------------------------------------ order and Elo


def test_order_changes_elo_and_not_the_fit(arena: list[Battle]) -> None:
    other = arena.copy()
    random.Random(0).shuffle(other)
    first, second = fit_ratings(arena), fit_ratings(other)
    assert [m.model for m in first.models] == [m.model for m in second.models]
    for x, y in zip(first.models, second.models, strict=True):
        assert x.beta == pytest.approx(y.beta, abs=1e-10)
        assert (x.low, x.high) == pytest.approx((y.low, y.high), abs=1e-7)
    assert max(abs(x - y) for x, y in zip(elo_of(arena), elo_of(other), strict=True)) > 10


def elo_of(battles: Sequence[Battle]) -> list[float]:
    """Online Elo of 15 models in the order given."""
    names = sorted({b.a for b in battles} | {b.b for b in battles})
    place = {name: k for k, name in enumerate(names)}
    a, b = [place[x.a] for x in battles], [place[x.b] for x in battles]
    return online_elo(a, b, [x.win for x in battles], len(names))


def test_elo_by_hand() -> None:
    # Equals: the winner gains K/2 = 2. Then 1002 against 998 expects 1/(1 + 10^{-4/400}) = .505756: a loss
    # takes 4 · .505756 = 2.023025.
    assert online_elo([0], [1], [1], 2) == [1002.0, 998.0]
    assert online_elo([0, 0], [1, 1], [1, 0], 2) == pytest.approx([999.976975, 1000.023025], abs=1e-6)
    assert expected_score(400) == pytest.approx(10 / 11)
    assert elo_points([0.0, math.log(10)]) == pytest.approx([1000, 1400])
    assert expit(1.3) == pytest.approx(expected_score(SCALE * 1.3))


def test_elo_conserves_the_sum_and_one_order_of_many_is_the_plain_rule() -> None:
    rng = np.random.default_rng(3)
    a = rng.integers(0, 4, 200)
    b = (a + rng.integers(1, 4, 200)) % 4
    wins = rng.choice([0, 0.5, 1], 200)
    ratings = elo_over_orders(a, b, wins, 4, orders=5, seed=7)
    assert ratings.sum(axis=1) == pytest.approx(np.full(5, 4000.0))
    order = np.random.default_rng(7).permutation(200)
    plain = online_elo(a[order].tolist(), b[order].tolist(), wins[order].tolist(), 4)
    assert ratings[0] == pytest.approx(plain)
    assert np.ptp(ratings, axis=0).max() > 1


# ----------------------------------------------------------------------------------- style, equal counts


def test_style_is_taken_out_of_verdicts() -> None:
    """x and y are equal, and 3 bold passages against 1 win 9 times in 10; y is bolder 40 times in 50."""
    bold, plain = Style(headers=0, lists=0, bold=3), Style(headers=0, lists=0, bold=1)
    battles = [
        Battle(a="x", b="y", win=float(won == (bolder == "x")), style=sides)
        for bolder, times, sides in (("x", 10, (bold, plain)), ("y", 40, (plain, bold)))
        for at in range(times)
        for won in [at % 10 != 0]
    ]
    plainly, found = fit_ratings(battles), fit_ratings(battles, controls=("style",))
    assert lead(plainly) < -0.8
    assert lead(found) == pytest.approx(0.0, abs=1e-9)
    (effect,) = found.effects
    # (3 - 1)/(3 + 1) = ½ of the time and of its square: a unit, worth log 9.
    assert (effect.name, effect.unit) == ("bold", pytest.approx(0.5))
    assert effect.points == pytest.approx(400 / math.log(10) * math.log(9), abs=1e-6)


def test_a_style_that_nobody_varies() -> None:
    same = Style(headers=1, lists=0, bold=0)
    battles = [Battle(a="x", b="y", win=win, style=(same, same)) for win in (1.0, 0.0, 1.0)]
    with pytest.raises(TrueupError, match="E425 control style — no two answers differ in"):
        fit_ratings(battles, controls=("style",))
    with pytest.raises(TrueupError, match=r"E425 .* 3 of 3 battles lack `style`"):
        fit_ratings(met("x", "y", 2, 1), controls=("style",))


def test_of_equal_counts_ratings_stand_in_the_published_order(arena: list[Battle]) -> None:
    """Where every two models met as often, ratings stand in the order of the wins that the scores publish."""
    scored = Counter(battle.prompt for battle in arena)
    whole = [battle for battle in arena if scored[battle.prompt] == 15 * 14 // 2]
    assert len(whole) > 20_000
    found = fit_ratings(whole)
    wins: Counter[str] = Counter()
    for battle in whole:
        wins[battle.a] += battle.win
        wins[battle.b] += 1 - battle.win
    assert [m.model for m in found.models] == sorted(wins, key=lambda name: -wins[name])
