"""What is shown to a policy: the prefix, what a short context drops, and the choice among n."""

from __future__ import annotations

import numpy as np
import pytest

from eval_stubs import byte_chat, tiny_model, uniform, view_of
from trueup.engine.groups import Completion, Group, Message, Role
from trueup.errors import TrueupError
from trueup.evals.benchmarks import choice
from trueup.evals.tasks import LIKELIHOOD
from trueup.evals.view import choose_best
from trueup.sources.sample import Decoding

PREFIX = (Message(Role.USER, "hi"), Message(Role.ASSISTANT, "hello"))


def asks(*contents: str) -> Group:
    """A conversation with alternating turns, the user's first."""
    roles = (Role.USER, Role.ASSISTANT)
    return Group(prompt=tuple(Message(roles[i % 2], text) for i, text in enumerate(contents)))


def shown(group: Group) -> str:
    assert group.prompt_tokens is not None
    return byte_chat().codec.decode(group.prompt_tokens)


def test_prefix_precedes_a_conversation_and_is_not_in_its_messages() -> None:
    (group,) = view_of(uniform(), prefix=PREFIX).encode([asks("what?")])
    assert shown(group) == (
        "<|bos|><|user|>hi<|end|><|assistant|>hello<|end|><|user|>what?<|end|><|assistant|>"
    )
    assert group.prompt == asks("what?").prompt


def test_prefix_follows_the_system_message() -> None:
    asked = Group(prompt=(Message(Role.SYSTEM, "be kind"), Message(Role.USER, "what?")))
    (group,) = view_of(uniform(), prefix=PREFIX).encode([asked])
    assert shown(group).startswith("<|bos|><|system|>be kind<|end|><|user|>hi<|end|>")


def test_prefix_precedes_a_plain_text_with_one_bos() -> None:
    (group,) = view_of(uniform(), prefix=PREFIX).encode([choice("The end", [" is"], 0)])
    assert shown(group) == "<|bos|><|user|>hi<|end|><|assistant|>hello<|end|>The end"


def test_no_prefix_is_the_bare_policy() -> None:
    groups = [asks("what?"), choice("The end", [" is"], 0)]
    for bare, seen in zip(groups, view_of(uniform()).encode(groups), strict=True):
        expected = byte_chat().encode(bare)
        assert expected.prompt_tokens is not None and seen.prompt_tokens is not None
        np.testing.assert_array_equal(seen.prompt_tokens, expected.prompt_tokens)


def test_short_context_drops_the_oldest_turns_and_keeps_prefix_and_question() -> None:
    asked = asks("first", "one", "second", "two", "third")
    bare = view_of(uniform(), prefix=PREFIX)
    whole = len(bare.encode([asked])[0].prompt_tokens)  # pyright: ignore[reportArgumentType]
    (fits,) = view_of(uniform(), prefix=PREFIX, context=whole + 8).encode([asked], room=8)
    assert "first" in shown(fits)
    (cut,) = view_of(uniform(), prefix=PREFIX, context=whole + 7).encode([asked], room=8)
    assert "first" not in shown(cut) and "second" in shown(cut)
    assert "hello" in shown(cut) and "third" in shown(cut)
    assert cut.prompt == asked.prompt
    with pytest.raises(TrueupError, match="E560"):
        view_of(uniform(), prefix=PREFIX, context=20).encode([asked], room=8)


def test_short_context_drops_the_beginning_of_a_text() -> None:
    item = choice("abcdef", [" xyz"], 0)
    # BOS, 6 bytes and 4 of the choice are 11 tokens.
    (kept,) = view_of(uniform(), context=11).encode([item])
    (cut,) = view_of(uniform(), context=9).encode([item])
    assert (shown(kept), shown(cut)) == ("<|bos|>abcdef", "<|bos|>cdef")
    with pytest.raises(TrueupError, match="E560"):
        view_of(uniform(), context=5).encode([item])


def test_prefix_changes_what_a_real_network_thinks() -> None:
    network = tiny_model()
    items = [choice("The end", [" is", " of"], 0)]
    bare = LIKELIHOOD["truth_mc2"].run(view_of(network), items)
    prefixed = LIKELIHOOD["truth_mc2"].run(view_of(network, prefix=PREFIX), items)
    assert abs(bare[0] - prefixed[0]) > 1e-3


def test_sampling_is_the_same_for_the_same_seed_and_mixes_texts_and_chats() -> None:
    view = view_of(tiny_model())
    groups = [asks("what?"), choice("The end", [" is"], 0), asks("who?")]
    decoding = Decoding(max_new_tokens=5)
    first = view.draw(groups, k=2, decoding=decoding, seed=1)
    again = view.draw(groups, k=2, decoding=decoding, seed=1)
    other = view.draw(groups, k=2, decoding=decoding, seed=2)
    texts = [[c.text for c in g.completions] for g in first]
    assert texts == [[c.text for c in g.completions] for g in again]
    assert texts != [[c.text for c in g.completions] for g in other]
    assert [g.prompt for g in first] == [g.prompt for g in groups]
    assert all(len(g.completions) == 2 for g in first)


def test_choose_best_takes_the_highest_of_every_n() -> None:
    group = Group(prompt=(), completions=tuple(Completion(text=t) for t in "abcdef"))
    (best,) = choose_best([group], [[1.0, 3.0, 2.0, 9.0, 7.0, 8.0]], 3, seed=0)
    assert [c.text for c in best.completions] == ["b", "d"]


def test_ties_are_broken_uniformly_and_by_the_seed() -> None:
    group = Group(prompt=(), completions=tuple(Completion(text=t) for t in "abc"))
    groups = [group] * 600
    chosen = choose_best(groups, [[1.0, 1.0, 0.0]] * 600, 3, seed=0)
    again = choose_best(groups, [[1.0, 1.0, 0.0]] * 600, 3, seed=0)
    texts = [g.completions[0].text for g in chosen]
    assert texts == [g.completions[0].text for g in again]
    # 600 fair coins: 300 ± 5 standard deviations of √150.
    assert 238 < texts.count("a") < 362 and "c" not in texts


def test_a_judge_that_is_not_finite_is_refused() -> None:
    group = Group(prompt=(), completions=(Completion(text="a"), Completion(text="b")))
    with pytest.raises(TrueupError, match="E901"):
        choose_best([group], [[float("nan"), 1.0]], 2, seed=0)


def test_a_wrong_view_is_refused() -> None:
    with pytest.raises(TrueupError, match="E702"):
        view_of(uniform(), prefix=PREFIX[:1])
    with pytest.raises(TrueupError, match="E702"):
        view_of(uniform(), best_of=4)
