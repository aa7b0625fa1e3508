"""Diversity without a model: numbers by hand, BLEU against sacrebleu's, intervals that hold."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sacrebleu.metrics.bleu import BLEU

from trueup.statistics.diversity import Texts, distinct, self_bleu, self_bleu_within


def texts(*prompts: list[str]) -> Texts:
    return [[text.split() for text in samples] for samples in prompts]


def test_distinct_by_hand() -> None:
    """a b a | b c | c: 3 of 6 words are different; 2-grams ab ba bc: 3 of 3.

    Without each prompt in turn the words give 2/3, 3/4, 2/4... of (b c c), (a b a c), (a b a b c): 2/3, 3/4,
    3/5. Their mean is .67222, Σ of squares .011296, times 2/3 .007531: error .08678, t_2 4.3027: ±.3734.
    """
    found = distinct(texts(["a b a"], ["b c"], ["c"]), 1)
    assert found is not None and found.mean == pytest.approx(3 / 6) and found.n == 3
    assert found.standard_error == pytest.approx(0.08678, abs=1e-5)
    assert (found.low, found.high) == pytest.approx((0.5 - 0.3734, 0.5 + 0.3734), abs=1e-4)
    pairs = distinct(texts(["a b a"], ["b c"], ["c"]), 2)
    assert pairs is not None and pairs.mean == 1.0
    assert distinct(texts(["", "a"], [""]), 2) is None, "no two words stand together"
    alone = distinct(texts(["a a"], [""]), 1)
    assert alone is not None and alone.mean == 0.5 and math.isnan(alone.low)


def test_bleu_is_that_of_sacrebleu() -> None:
    """Each of 12 random texts against all others: every order, clipping, brevity and smoothing."""
    rng = np.random.default_rng(0)
    said = [[str(w) for w in rng.integers(0, 6, size=rng.integers(1, 9))] for _ in range(12)]
    oracle = BLEU(tokenize="none", effective_order=True, smooth_method="exp")
    scores = []
    for place, words in enumerate(said):
        others = [" ".join(other) for i, other in enumerate(said) if i != place]
        scores.append(oracle.sentence_score(" ".join(words), others).score / 100)
    found = self_bleu([[words] for words in said])
    assert found is not None and found.n == 12
    assert found.mean == pytest.approx(np.mean(scores), abs=1e-12)
    assert found.standard_error == pytest.approx(np.std(scores, ddof=1) / math.sqrt(12), abs=1e-12)
    within = self_bleu_within([said[:6], said[6:]])
    halves = []
    for half in (said[:6], said[6:]):
        rest = [[" ".join(o) for j, o in enumerate(half) if j != i] for i in range(6)]
        each = [oracle.sentence_score(" ".join(w), r).score / 100 for w, r in zip(half, rest, strict=True)]
        halves.append(np.mean(each))
    assert within is not None and within.mean == pytest.approx(np.mean(halves), abs=1e-12)


def test_samples_of_the_same_prompt_are_no_others() -> None:
    """One prompt repeats itself word for word, and the other has none of its words."""
    said = texts(["a b c d e", "a b c d e"], ["v w x y z", "z y x w v"])
    across, within = self_bleu(said), self_bleu_within(said)
    assert across is not None and across.mean == 0.0
    assert within is not None and within.mean > 0.5
    same = self_bleu(texts(["a b c d e"], ["a b c d e"], ["a b c d e"]))
    assert same is not None and (same.mean, same.low, same.high) == (1.0, 1.0, 1.0)
    assert self_bleu(texts(["a"])) is None and self_bleu_within(texts(["a"], ["b"])) is None


def test_a_text_without_words_is_like_another_without() -> None:
    found = self_bleu(texts([""], [""], ["a"]))
    assert found is not None and found.mean == pytest.approx(2 / 3)


@pytest.mark.slow
def test_the_interval_of_distinct_holds_what_it_estimates() -> None:
    """Zipf's words, 30 prompts of 8: the share of 400 intervals that hold the mean of 4,000 repetitions."""
    rng = np.random.default_rng(1)
    weights = 1 / np.arange(1, 201)

    def draw() -> Texts:
        ids = rng.choice(200, size=(30, 1, 8), p=weights / weights.sum())
        return [[[str(w) for w in sample] for sample in prompt] for prompt in ids]

    sizes = rng.choice(200, size=(4000, 240), p=weights / weights.sum())
    truth = np.mean([len(set(row)) / 240 for row in sizes.tolist()])
    found = [distinct(draw(), 1) for _ in range(400)]
    held = np.mean([f.low <= truth <= f.high for f in found if f is not None])
    assert 0.93 <= held <= 1.0
