"""Common beginnings computed once: the same numbers in the same order, on a real network."""

from __future__ import annotations

import numpy as np
import torch

from eval_stubs import byte_chat, random_table, tiny_model, view_of
from trueup.annotate.logprobs import measure
from trueup.engine.groups import Completion, Group, Message, Role
from trueup.engine.packing import num_row_tokens, pack
from trueup.engine.prefixes import share_prefix
from trueup.evals.benchmarks import choice
from trueup.evals.tasks import LIKELIHOOD

SHOTS = "one two three four five six seven. "
ITEMS = [choice(SHOTS + q, [" ab", " cde"], 0) for q in ("who", "what is", "where", "w")]
PREFIX = (Message(Role.USER, "hi"), Message(Role.ASSISTANT, "hello"))


def test_shared_groups_hold_the_same_tokens_in_fewer_places() -> None:
    groups = view_of(random_table()).encode(ITEMS)
    shared = share_prefix(groups, 4096)
    assert len(shared) == 1 and shared[0].prompt_tokens is not None
    assert byte_chat().codec.decode(shared[0].prompt_tokens) == "<|bos|>" + SHOTS + "w"
    assert sum(map(num_row_tokens, shared)) < sum(map(num_row_tokens, groups)) / 2
    np.testing.assert_array_equal(pack(shared).targets.numpy(), pack(groups).targets.numpy())


def test_shared_groups_stay_within_the_budget() -> None:
    groups = view_of(random_table()).encode(ITEMS)
    shared = share_prefix(groups, 80)
    assert len(shared) > 1 and max(map(num_row_tokens, shared)) <= 80


def test_prompts_that_differ_at_once_come_back_as_they_are() -> None:
    first = Group(prompt=(), prompt_tokens=np.array([1, 2], np.int32), completions=(_one_token(),))
    second = Group(prompt=(), prompt_tokens=np.array([2, 2], np.int32), completions=(_one_token(),))
    assert share_prefix([first, second], 100) == [first, second]
    assert share_prefix([first], 100) == [first]
    assert share_prefix([], 100) == []


def _one_token() -> Completion:
    return Completion(text="x", tokens=np.array([3], np.int32))


def test_a_network_says_the_same_of_both_layouts() -> None:
    view = view_of(tiny_model())
    groups = view.encode(ITEMS)
    apart = measure(groups, "policy", "logprobs", view.handles)
    for budget in (80, 4096):
        together = measure(share_prefix(groups, budget), "policy", "logprobs", view.handles)
        torch.testing.assert_close(together, apart, atol=1e-5, rtol=1e-5)


def dialogue() -> Group:
    turns = ((Role.USER, "one?"), (Role.ASSISTANT, "yes"), (Role.USER, "two?"))
    prompt = tuple(Message(role, text) for role, text in turns)
    return Group(prompt=prompt, completions=(Completion(text="no"),))


def test_perplexity_of_a_dialogue_covers_every_turn_of_the_assistant_and_no_prefix() -> None:
    for prefix in ((), PREFIX):
        view = view_of(random_table(), prefix=prefix)
        (group,) = view.encode([dialogue()], score="all")
        (completion,) = group.completions
        assert completion.tokens is not None and completion.supervised is not None
        scored = byte_chat().codec.decode(completion.tokens[completion.supervised])
        assert scored == "yes<|end|>no<|end|>"
        assert group.prompt_tokens is not None
        shown = byte_chat().codec.decode(group.prompt_tokens)
        assert shown.endswith("<|user|>one?<|end|><|assistant|>") and ("hello" in shown) == bool(prefix)


def test_a_networks_own_prefix_matters_to_every_turn() -> None:
    network = tiny_model()
    task = LIKELIHOOD["perplexity"]
    bare, prefixed = (task.run(view_of(network, prefix=p), [dialogue()])[0] for p in ((), PREFIX))
    whole = Group(
        prompt=(*PREFIX, *dialogue().prompt), completions=dialogue().completions
    )  # As one conversation, whose every turn is scored by hand below.
    found = byte_chat().encode(whole, train_on="all")
    (completion,) = found.completions
    assert completion.supervised is not None
    with torch.no_grad():
        logprobs = network(pack([found]), ("logprobs",)).logprobs
    assert logprobs is not None
    of_the_prefix = len("hello") + 1
    assert abs(bare - prefixed) > 1e-3
    np.testing.assert_allclose(prefixed, float(logprobs[of_the_prefix:].double().mean()), atol=1e-5)
