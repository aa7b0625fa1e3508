"""Likelihood evaluations against numbers computed by hand on networks whose probabilities are known."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from eval_stubs import VOCABULARY, TableNetwork, byte_chat, random_table, uniform, view_of
from trueup.annotate.logprobs import choice_logprobs
from trueup.engine.groups import Completion, Group, Message, Role
from trueup.errors import TrueupError
from trueup.evals.benchmarks import choice
from trueup.evals.likelihood import Evidence, bits_per_byte, exact_match_by, gather, perplexity
from trueup.evals.tasks import LIKELIHOOD, confidence
from trueup.statistics.estimates import ece

LOG_V = math.log(VOCABULARY)


def favouring(*texts: str, strength: float = 3.0) -> TableNetwork:
    """Logit `strength` for every byte that follows another in one of the texts, 0 for the rest."""
    table = torch.zeros(VOCABULARY, VOCABULARY, dtype=torch.float64)
    for text in texts:
        ids = byte_chat().completion_ids(text, finished=False, plain=True)
        for before, after in pairwise(ids):
            table[int(before), int(after)] = strength
    return TableNetwork(table)


def test_uniform_model_gives_log_v_for_every_token() -> None:
    item = choice("ab", [" c", " defg"], 0)
    view = view_of(uniform())
    (found,) = choice_logprobs(view.encode([item]), "policy", view.handles)
    np.testing.assert_allclose(found, [-2 * LOG_V, -5 * LOG_V], rtol=1e-12)


def test_end_token_counts_where_the_choice_has_one() -> None:
    prompt = (Message(Role.USER, "ab"),)
    item = Group(prompt=prompt, completions=(Completion(text="xy"), Completion(text="xy", finished=False)))
    view = view_of(uniform())
    (found,) = choice_logprobs(view.encode([item]), "policy", view.handles)
    np.testing.assert_allclose(found, [-3 * LOG_V, -2 * LOG_V], rtol=1e-12)


def test_uniform_model_is_at_chance_where_lengths_are_equal() -> None:
    items = [choice("q", [" aa", " bb", " cc", " dd"], k) for k in range(4)]
    view = view_of(uniform())
    for name in ("completion_choice", "completion_choice_sum", "truth_mc1", "truth_mc2", "ethics", "hhh"):
        task = LIKELIHOOD[name]
        values = task.run(view, items)
        np.testing.assert_allclose(values, 0.25, rtol=1e-12)
        assert task.chance(items) == pytest.approx(0.25)
    # Brier of a uniform guess: 3 · (1/4)² + (3/4)² = 0.75.
    np.testing.assert_allclose(LIKELIHOOD["calibration"].run(view, items), -0.75, rtol=1e-12)
    assert LIKELIHOOD["calibration"].chance(items) == pytest.approx(-0.75)


def test_sum_prefers_the_short_choice_and_characters_tie() -> None:
    # All tokens equally likely: the log-probability is −log V for each byte, so " a" beats " abc" in sum,
    # and after dividing by characters −2 log V / 1 loses to −4 log V / 3 (the space is a token, not counted).
    items = [choice("q", [" a", " abc"], 1)]
    view = view_of(uniform())
    assert LIKELIHOOD["completion_choice_sum"].run(view, items).tolist() == [0.0]
    assert LIKELIHOOD["completion_choice"].run(view, items).tolist() == [1.0]
    assert LIKELIHOOD["hhh"].run(view, items).tolist() == [0.5]


def test_choices_of_one_length_make_both_accuracies_equal() -> None:
    rng = np.random.default_rng(3)
    letters = list("abcdefgh")
    items = [
        choice("q" + str(i), [" " + "".join(rng.permutation(letters)[:4]) for _ in range(3)], i % 3)
        for i in range(20)
    ]
    view = view_of(random_table())
    by_sum = LIKELIHOOD["completion_choice_sum"].run(view, items)
    np.testing.assert_array_equal(by_sum, LIKELIHOOD["completion_choice"].run(view, items))
    assert 0 < by_sum.mean() < 1


def test_last_word_needs_every_token() -> None:
    network = favouring(" cat")
    view = view_of(network)
    items = [choice("the", [" cat"], 0), choice("the", [" cab"], 0)]
    # The first byte is the space; after "e" all tokens tie, so the chance of it is 1 / V.
    np.testing.assert_allclose(LIKELIHOOD["last_word"].run(view, items), [1 / VOCABULARY, 0.0], rtol=1e-12)
    network = favouring("the cat")
    view = view_of(network)
    assert LIKELIHOOD["last_word"].run(view, items).tolist() == [1.0, 0.0]


def test_mc2_is_the_share_of_true_answers_if_all_are_equal() -> None:
    item = choice("q", [" aa", " bb", " cc", " dd", " ee"], 0)
    item = Group(prompt=item.prompt, completions=item.completions, meta={"true": [1, 1, 0, 0, 0]})
    task = LIKELIHOOD["truth_mc2"]
    assert task.run(view_of(uniform()), [item])[0] == pytest.approx(0.4, rel=1e-12)
    assert task.chance([item]) == pytest.approx(0.4)


def test_mc2_by_hand_and_stable_far_below_underflow() -> None:
    # After "q" the bytes a and b have logits 3 and 0; " a..." differ in their second byte only.
    network = favouring(" a", strength=3.0)
    prompt = "q" * 40
    long = "z" * 400
    item = choice(prompt, [" a" + long, " b" + long], 0)
    value = LIKELIHOOD["truth_mc2"].run(view_of(network), [item])[0]
    # L_a − L_b = 3 − 0 = 3 (every other byte is the same): 1 / (1 + e^−3), though e^L is 0 in float64.
    assert value == pytest.approx(1 / (1 + math.exp(-3)), rel=1e-9)


def test_adding_a_constant_to_all_logits_changes_nothing() -> None:
    items = [choice("q" + str(i), [" ab", " cde", " f"], i % 3) for i in range(6)]
    network = random_table(5)
    shift = torch.arange(VOCABULARY, dtype=torch.float64)[:, None]
    for name, task in LIKELIHOOD.items():
        before = task.run(view_of(network), items)
        after = task.run(view_of(TableNetwork(network.table + shift)), items)
        np.testing.assert_allclose(after, before, rtol=1e-9, err_msg=name)


def test_order_and_microbatches_change_nothing() -> None:
    items = [choice("q" * (i + 1), [" ab", " cde", " f"], i % 3) for i in range(7)]
    for name, task in LIKELIHOOD.items():
        together = task.run(view_of(random_table(2)), items)
        small = task.run(view_of(random_table(2), microbatch_tokens=9), items[::-1])
        np.testing.assert_allclose(small[::-1], together, rtol=1e-12, err_msg=name)


def test_perplexity_of_a_uniform_model_is_the_vocabulary() -> None:
    documents = [
        Group(prompt=(Message(Role.TEXT, ""),), completions=(Completion(text=t, finished=False),))
        for t in ("one text", "another, longer text")
    ]
    view = view_of(uniform())
    found = gather(view, documents, "documents")
    assert perplexity(found) == pytest.approx(VOCABULARY, rel=1e-12)
    assert perplexity(gather(view, documents * 2, "documents")) == pytest.approx(VOCABULARY, rel=1e-12)
    np.testing.assert_allclose(LIKELIHOOD["perplexity"].run(view, documents), -LOG_V, rtol=1e-12)
    # One byte is one token here, so bits per byte are log2 V.
    assert bits_per_byte(documents, found) == pytest.approx(math.log2(VOCABULARY), rel=1e-12)


def test_perplexity_pools_tokens_not_documents() -> None:
    sums, lengths = [np.array([-2.0]), np.array([-3.0])], [np.array([1.0]), np.array([3.0])]
    found = Evidence(logprobs=sums, num_tokens=lengths, greedy=[], cut=[])
    assert perplexity(found) == pytest.approx(math.exp(5 / 4))


def test_calibration_of_a_uniform_model() -> None:
    items = [choice("q", [" a", " b"], k) for k in (0, 1, 0, 1)]
    sure, correct = confidence(gather(view_of(uniform()), items, "choices"), items)
    np.testing.assert_allclose(sure, 0.5)
    np.testing.assert_allclose(correct, 0.5)
    assert ece(sure, correct) == pytest.approx(0.0, abs=1e-12)


def test_exact_match_needs_all_items_of_a_scenario() -> None:
    assert exact_match_by(np.array([1.0, 1.0, 1.0, 0.0]), ["a", "a", "b", "b"]) == {"a": 1.0, "b": 0.0}


def test_a_bad_answer_is_named() -> None:
    item = Group(prompt=(Message(Role.TEXT, "q"),), completions=(Completion(text=" a", finished=False),))
    with pytest.raises(TrueupError, match="E206"):
        LIKELIHOOD["ethics"].run(view_of(uniform()), [item])
    with pytest.raises(TrueupError, match="E827"):
        LIKELIHOOD["ethics"].run(view_of(uniform()), [])


def test_best_of_n_has_no_likelihood() -> None:
    view = view_of(uniform(), best_of=4, judge=lambda groups: [])
    with pytest.raises(TrueupError, match="E790"):
        LIKELIHOOD["ethics"].run(view, [choice("q", [" a", " b"], 0)])
