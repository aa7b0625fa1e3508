"""Statistics against hand arithmetic, and interval coverage against simulation."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest

from trueup.errors import TrueupError
from trueup.statistics import estimates as st


def test_mean_ci_by_hand() -> None:
    # 1 2 3 4: mean 2.5, s² = 5/3, se = √(5/12) = .645497; t_3(.975) = 3.182446; half width 2.054260
    got = st.mean_ci([1, 2, 3, 4])
    assert got.mean == 2.5
    assert got.standard_error == pytest.approx(0.6454972244)
    assert (got.low, got.high) == pytest.approx((0.4457397432, 4.5542602568))
    assert got.n == 4


def test_samples_of_a_prompt_count_once() -> None:
    # Two prompts with means 1 and 3: four numbers, but n = 2.
    assert st.mean_ci([[0, 2], [2, 4]]) == st.mean_ci([1, 3])
    assert st.mean_ci([[0, 2], [2, 4]]).n == 2


def test_one_prompt_has_no_interval() -> None:
    got = st.mean_ci([0.7])
    assert math.isnan(got.low)
    assert not got.excludes(0.0)
    assert got.to_json() == {"mean": 0.7, "ci95": None, "n": 1, "standard_error": None}


@pytest.mark.parametrize("bad", [[], [1.0, math.nan], [math.inf, 0.0]])
def test_nothing_and_non_finite_are_errors(bad: list[float]) -> None:
    with pytest.raises(TrueupError):
        st.mean_ci(bad)


def _coverage(
    draw: Callable[[np.random.Generator, int], np.ndarray], true: float, n: int, **how: object
) -> float:
    rng = np.random.default_rng(0)
    trials = 1000
    hits = 0
    for trial in range(trials):
        got = st.mean_ci(draw(rng, n), **({"seed": trial} | how))
        hits += got.low <= true <= got.high
    return hits / trials


_DRAWS: list[tuple[str, Callable[[np.random.Generator, int], np.ndarray], float, int]] = [
    ("normal", lambda rng, n: rng.normal(size=n), 0.0, 20),
    ("uniform", lambda rng, n: rng.random(n), 0.5, 20),
    ("yes or no", lambda rng, n: (rng.random(n) < 0.3).astype(float), 0.3, 60),
    ("skewed", lambda rng, n: rng.exponential(size=n), 1.0, 150),
]


@pytest.mark.parametrize(("name", "draw", "true", "n"), _DRAWS, ids=[d[0] for d in _DRAWS])
def test_t_interval_covers(
    name: str, draw: Callable[[np.random.Generator, int], np.ndarray], true: float, n: int
) -> None:
    assert 0.93 <= _coverage(draw, true, n) <= 0.97


def test_bootstrap_interval_covers_and_is_seeded() -> None:
    assert (
        0.93
        <= _coverage(lambda rng, n: rng.normal(size=n), 0.0, 150, interval="bootstrap", resamples=400)
        <= 0.97
    )
    x = np.random.default_rng(1).normal(size=30)
    assert st.mean_ci(x, interval="bootstrap", seed=3) == st.mean_ci(x, interval="bootstrap", seed=3)
    assert st.mean_ci(x, interval="bootstrap", seed=3) != st.mean_ci(x, interval="bootstrap", seed=4)


def test_bootstrap_in_parts_equals_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(1).normal(size=30)
    whole = st.mean_ci(x, interval="bootstrap", resamples=500)
    monkeypatch.setattr(st, "_BOOTSTRAP_CELLS", 30 * 7)
    assert st.mean_ci(x, interval="bootstrap", resamples=500) == whole


def test_paired_gain_pairs() -> None:
    base = np.array([0.0, 10.0, 20.0, 30.0])
    got = st.paired_gain(base + np.array([1.0, 2, 3, 4]), base)
    assert got == st.mean_ci([1, 2, 3, 4])
    with pytest.raises(TrueupError):
        st.paired_gain([1.0, 2.0], [1.0])


def test_win_rate_by_hand() -> None:
    # s_AB = 1 1 ½ 0, s_BA = 0 1 ½ 0 -> per prompt 1 ½ ½ ½ -> w = 5/8; prompts 2 and 4 disagree with the swap.
    got = st.win_rate([1, 1, 0.5, 0], [0, 1, 0.5, 0])
    assert got.estimate.mean == 0.625
    assert got.inconsistent == 0.5
    # plus four: 1 ½ ½ ½ 0 0 1 1: mean 4.5/8 = .5625, variance 3.75/8 - .5625² = .15234375
    half = 1.959963985 * math.sqrt(0.15234375 / 8)
    assert (got.estimate.low, got.estimate.high) == pytest.approx((0.5625 - half, 0.5625 + half))


def test_win_rate_identities() -> None:
    rng = np.random.default_rng(0)
    ab, ba = rng.choice([0, 0.5, 1], size=(2, 50))
    assert st.win_rate(np.ones(50), np.ones(50)).estimate.mean == 0.5
    assert st.win_rate(np.ones(50), np.ones(50)).inconsistent == 1.0
    assert st.win_rate(ab, ba).estimate.mean + st.win_rate(ba, ab).estimate.mean == pytest.approx(1.0)
    assert st.win_rate(ab, ab).estimate.mean == 0.5
    with pytest.raises(TrueupError):
        st.win_rate([2.0, 0.0])


def test_win_rate_interval_does_not_shrink_to_a_point() -> None:
    # Ten wins of ten: 12/14 ± 1.96 √((12/14)(2/14)/14), cut at 1.
    got = st.win_rate(np.ones(10)).estimate
    assert got.low == pytest.approx(12 / 14 - 1.959963985 * math.sqrt(12 / 14 * 2 / 14 / 14))
    assert got.high == 1.0


@pytest.mark.parametrize(("win", "tie"), [(0.5, 0.0), (0.8, 0.0), (0.4, 0.3)])
def test_win_rate_interval_covers(win: float, tie: float) -> None:
    rng = np.random.default_rng(0)
    true = win + tie / 2
    hits = 0
    for _ in range(1000):
        got = st.win_rate(rng.choice([1, 0.5, 0], p=[win, tie, 1 - win - tie], size=60)).estimate
        hits += got.low <= true <= got.high
    assert 0.93 <= hits / 1000 <= 0.97


def test_preferences_and_accuracy() -> None:
    assert st.preferences([1, 2, 3], [2, 2, 1]).tolist() == [0, 0.5, 1]
    assert st.preferences([1, 2, 3], [2, 2, 1], margin=1).tolist() == [0.5, 0.5, 1]
    assert st.win_rate(st.preferences([1, 2, 3, 4], [2, 2, 1, 1])).estimate.mean == 0.625


def test_best_of_n_kl_bound_by_hand() -> None:
    assert st.best_of_n_kl_bound(1) == 0.0
    assert st.best_of_n_kl_bound(2) == pytest.approx(math.log(2) - 0.5)
    assert st.best_of_n_kl_bound(16) == pytest.approx(1.8350887222)
    with pytest.raises(TrueupError):
        st.best_of_n_kl_bound(0)


def test_expected_best_of_n_by_hand() -> None:
    # Scores 1 2 6. n=1: 3. n=2: pairs (1,2) (1,6) (2,6) -> 2 6 6 -> 14/3. n=3: 6.
    assert st.expected_best_of_n([6, 1, 2])[0] == pytest.approx([3, 14 / 3, 6])
    # Gold 5 1 0 ordered by proxy 1 2 3. n=2: winners by proxy: 1, 0, 0 -> 1/3. n=3: 0.
    assert st.expected_best_of_n([5, 1, 0], by=[1, 2, 3])[0] == pytest.approx([2, 1 / 3, 0])


def test_expected_best_of_n_equals_all_subsets() -> None:
    rng = np.random.default_rng(0)
    gold = rng.normal(size=7)
    proxy = rng.integers(0, 4, size=7).astype(float)  # with ties
    curve = st.expected_best_of_n(gold, by=proxy)[0]
    for n in range(1, 8):
        winners = []
        for subset in combinations(range(7), n):
            best = max(proxy[list(subset)])
            winners.append(np.mean([gold[i] for i in subset if proxy[i] == best]))
        assert curve[n - 1] == pytest.approx(np.mean(winners), abs=1e-12)


def test_expected_best_of_n_takes_prompts_one_by_one() -> None:
    rows = np.random.default_rng(0).normal(size=(3, 5))
    whole = st.expected_best_of_n(rows)
    assert whole.shape == (3, 5)
    for row, curve in zip(rows, whole, strict=True):
        assert st.expected_best_of_n(row)[0] == pytest.approx(curve)
    assert np.isfinite(st.expected_best_of_n(np.arange(300.0))).all()  # C(300, 150) has 89 digits


def test_ece_by_hand() -> None:
    # .95 .95 right and wrong: |.5 - .95| · 2/4; .15 .05 both wrong, each in its own bin, 1/4 each.
    got = st.ece([0.95, 0.95, 0.15, 0.05], [1, 0, 0, 0])
    assert got == pytest.approx(0.45 / 2 + 0.15 / 4 + 0.05 / 4)
    assert st.ece([1.0, 0.0], [1, 0]) == 0.0
    with pytest.raises(TrueupError):
        st.ece([1.2], [1])


def test_kl_estimate_is_the_mean_of_the_sums() -> None:
    got = st.kl_estimate([1, 2, 3, 4])
    assert (got.mean, got.standard_error) == pytest.approx((2.5, 0.6454972244))


def test_pass_at_k_is_unbiased_over_the_binomial() -> None:
    n, p = 10, 0.3
    for k in (1, 4, 10):
        mean = sum(math.comb(n, c) * p**c * (1 - p) ** (n - c) * st.pass_at_k(n, c, k) for c in range(n + 1))
        assert mean == pytest.approx(1 - (1 - p) ** k, rel=1e-12)
    # The plug-in 1 − (1 − c/n)^k is biased low: .699 where the truth is 1 − .7^4 = .7599.
    plug_in = sum(math.comb(n, c) * p**c * (1 - p) ** (n - c) * (1 - (1 - c / n) ** 4) for c in range(n + 1))
    assert plug_in == pytest.approx(0.699, abs=5e-4) and pytest.approx(0.7599) == 1 - 0.7**4


def test_pass_at_k_by_hand_and_as_a_product() -> None:
    # n = 5, c = 2, k = 3: C(3, 3)/C(5, 3) = 1/10, so 0.9; as a product (1 − 3/4)(1 − 3/5) = 1/4 · 2/5 = 1/10.
    assert st.pass_at_k(5, 2, 3) == pytest.approx(0.9)
    for n, c, k in ((5, 2, 3), (20, 7, 10), (200, 3, 100), (8, 0, 4)):
        product = math.prod(1 - k / i for i in range(n - c + 1, n + 1))
        assert st.pass_at_k(n, c, k) == pytest.approx(1 - product, rel=1e-12)
    assert st.pass_at_k(4, 3, 2) == 1.0, "fewer wrong ones than drawn"
    assert [st.pass_at_k(8, c, 1) for c in range(9)] == pytest.approx([c / 8 for c in range(9)])


def test_pass_at_k_is_monotone_and_its_arguments_are_checked() -> None:
    table = np.array([[st.pass_at_k(9, c, k) for k in range(1, 10)] for c in range(10)])
    assert (np.diff(table, axis=0) >= 0).all() and (np.diff(table, axis=1) >= 0).all()
    for n, c, k in ((4, 5, 1), (4, -1, 1), (4, 2, 5), (4, 2, 0)):
        with pytest.raises(TrueupError, match="E702"):
            st.pass_at_k(n, c, k)


def test_pass_rate_is_the_mean_over_problems_with_their_interval() -> None:
    # Two samples of four problems: c = 2, 1, 0, 1. pass@1 = (1 + .5 + 0 + .5)/4, pass@2 = (1 + 1 + 0 + 1)/4.
    correct = [[1, 1], [0, 1], [0, 0], [1, 0]]
    one, two = st.pass_rate(correct, 1), st.pass_rate(correct, 2)
    assert (one.mean, two.mean, two.n) == (0.5, 0.75, 4)
    assert two.low < 0.75 < two.high <= 1.0
    none = st.pass_rate([[0, 0]] * 30, 1)
    assert none.mean == none.low == 0.0 < none.high < 0.15, "no problem solved is no proof that none can be"
    # Of one problem three of four, of the other one of two: (1 - 0) and (1 - C(1,2)/C(2,2)) at k = 2.
    assert st.pass_rate([[1, 1, 0, 1], [0, 1]], 1).mean == 0.625
    assert st.pass_rate([[1, 1, 0, 1], [0, 1]], 2).mean == 1.0
    with pytest.raises(TrueupError, match="E205"):
        st.pass_rate([[0.5]], 1)


def test_items_that_agree_leave_no_interval_of_width_zero() -> None:
    """Agresti and Min by hand: half a prompt more for each of right and wrong, on 80 that agree.

    m' = 0, s'² = 1/82, half width 1.96 √(1/82) / √82 = 1.96 / 82 = .0239.
    """
    right = np.ones(80)
    found = st.paired_gain(right, right)
    assert found.mean == 0 and (found.low, found.high) == pytest.approx((-1.959964 / 82, 1.959964 / 82))
    # d = −1 on 4: m' = −4/6, s'² = 5/6 − 4/9 = 7/18, half 1.96 √(7/18/6) = .499.
    lost = st.paired_gain(np.zeros(4), np.ones(4))
    half = 1.959964 * np.sqrt(7 / 108)
    assert (lost.mean, lost.low) == (-1, -1) and lost.high == pytest.approx(-4 / 6 + half)
    for interval in ("t", "bootstrap"):
        other = st.paired_gain(np.full(9, 3.0), np.full(9, 1.0), interval=interval)
        assert other.mean == 2 and np.isnan(other.low) and other.to_json()["ci95"] is None
