"""Public benchmarks on a real network, against log-probabilities computed with transformers directly."""

from __future__ import annotations

import functools
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shared_data import shared
from trueup.chat.encoder import Chat
from trueup.errors import TrueupError
from trueup.evals.benchmarks import choice, clean, ethics_utilitarianism, hellaswag, last_word, truthfulqa
from trueup.evals.likelihood import choice_logprobs
from trueup.evals.tasks import LIKELIHOOD
from trueup.evals.view import PolicyView
from trueup.groups import Group
from trueup.models.load import load


@functools.cache
def stories() -> PolicyView:
    """The small real Llama, in float64 so that ties of rounding play no part."""
    folder = shared("stories260K/config.json").parent
    network = load(folder, dtype="float64")
    return PolicyView(name="stories", network=network, chat=Chat.of(network.tokenizer), context=512)


def rows(path: Path, count: int) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for _, line in zip(range(count), file, strict=False)]


def direct(group: Group) -> tuple[np.ndarray, list[bool]]:
    """log-probability of each choice and whether greedy decoding gives it, one full forward pass each."""
    hf_model = stories().network.hf_model  # pyright: ignore[reportAttributeAccessIssue]
    sums, greedy = [], []
    for completion in group.completions:
        assert group.prompt_tokens is not None and completion.tokens is not None
        ids = torch.from_numpy(np.concatenate([group.prompt_tokens, completion.tokens]).astype(np.int64))
        with torch.no_grad():
            logits = hf_model(ids[None]).logits[0].double()
        found = torch.log_softmax(logits, -1)[len(group.prompt_tokens) - 1 : -1]
        target = ids[len(group.prompt_tokens) :]
        sums.append(float(found.gather(1, target[:, None]).sum()))
        greedy.append(bool((found.argmax(1) == target).all()))
    return np.array(sums), greedy


def items() -> dict[str, list[Group]]:
    hella = [r["doc"] for r in rows(shared("hellaswag/requests_first_100.jsonl.gz"), 8)[::4]]
    truth = rows(shared("truthfulqa/first_100.jsonl.gz"), 2)
    lambada = rows(shared("lambada/first_200.jsonl.gz"), 6)
    return {
        "last_word": [last_word(r["text"]) for r in lambada],
        "completion_choice": [choice(d["query"], [" " + c for c in d["choices"]], d["gold"]) for d in hella],
        "truth_mc1": [truthfulqa(r["question"], *r["mc1_targets"].values()) for r in truth],
        "truth_mc2": [truthfulqa(r["question"], *r["mc2_targets"].values()) for r in truth],
    }


def test_item_values_equal_a_direct_computation() -> None:
    view = stories()
    for name, found in items().items():
        encoded = view.encode(found)
        packed = choice_logprobs(encoded, "policy", view.handles)
        values = LIKELIHOOD[name].run(view, found)
        for group, sums, value in zip(encoded, packed, values, strict=True):
            expected, greedy = direct(group)
            np.testing.assert_allclose(sums, expected, atol=1e-5)
            assert value == pytest.approx(by_definition(name, group, expected, greedy), abs=1e-5)


def by_definition(name: str, group: Group, sums: np.ndarray, greedy: list[bool]) -> float:
    """The task's value for one item, written out again."""
    if name == "last_word":
        return float(greedy[0])
    if name == "completion_choice":
        sums = sums / [len(c.text) - 1 for c in group.completions]
    if name == "truth_mc2":
        weights = np.exp(sums - sums.max())
        return float(weights[np.array(group.meta["true"])].sum() / weights.sum())
    return float(sums.argmax() == group.meta["answer"])


def test_last_word_is_cut_off() -> None:
    item = last_word("I am here, Shane")
    assert (item.prompt[0].content, item.completions[0].text) == ("I am here,", " Shane")
    with pytest.raises(TrueupError, match="E206"):
        last_word("Shane")


def test_hellaswag_rows_are_cleaned() -> None:
    endings = ["Pour [substeps] it.", "Stop.", "c", "d"]
    item = hellaswag("Cooking", "Boil water [title] Wait.", "then you", endings, 1)
    assert item.prompt[0].content == "Cooking: Boil water.  Wait. Then you".replace("  ", " ")
    assert item.completions[0].text == " Pour it."
    assert clean("a [title] b") == "a. b"


def test_utilitarianism_can_swap() -> None:
    for swapped in (False, True):
        item = ethics_utilitarianism("good", "bad", swapped=swapped)
        assert item.meta["answer"] == int(swapped)
        assert item.prompt[0].content.startswith("(A) bad" if swapped else "(A) good")
