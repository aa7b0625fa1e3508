"""The length limit: no completion is ever cut, a group keeps one prompt, and everything is counted.

Plain text is cut by tokens, here; dialogues by turns, in `test_fit_turns`.
"""

from __future__ import annotations

import random

import numpy as np
import pytest

from chat_shapes import shapes
from trueup.chat import Chat, fit, fit_all
from trueup.engine.groups import Completion, Group, Message, Role
from trueup.errors import TrueupError

CHAT = Chat.of(next(shape for shape in shapes() if shape.name == "llama3").tokenizer, "llama3")


def group(rng: random.Random, number: int) -> Group:
    def text() -> str:
        return "word " * rng.randrange(1, 12)

    prompt = (Message(Role.TEXT, text()),)
    completions = tuple(Completion(text=text()) for _ in range(rng.choice((1, 2, 4))))
    return CHAT.encode(Group(prompt=prompt, completions=completions, id=str(number)))


def test_every_limit_from_1_to_64() -> None:
    rng = random.Random(3)
    groups = [group(rng, number) for number in range(60)]
    for limit in range(1, 65):
        for policy in ("drop", "truncate_prompt_start"):
            kept, report = fit_all(CHAT, groups, limit, policy)
            assert report.num_kept + report.num_truncated + report.num_dropped == len(groups)
            assert len(kept) + len(report.dropped) == len(groups)
            by_id = {g.id: g for g in kept}
            assert set(by_id) | set(report.dropped) == {g.id for g in groups}
            cut = 0
            for before in groups:
                after = by_id.get(before.id)
                assert before.prompt_tokens is not None
                longest = max(len(c.tokens) for c in before.completions if c.tokens is not None)
                if after is None:
                    fits = (
                        longest + 2 <= limit
                        if policy != "drop"
                        else len(before.prompt_tokens) + longest <= limit
                    )
                    assert not fits, "dropped only where it had to be"
                    continue
                assert after.prompt_tokens is not None and after.completions == before.completions
                assert len(after.prompt_tokens) + longest <= limit
                cut += len(before.prompt_tokens) - len(after.prompt_tokens)
                assert after.prompt_tokens[0] == CHAT.bos and np.sum(after.prompt_tokens == CHAT.bos) == 1
                tail = after.prompt_tokens[1:]
                assert np.array_equal(tail, before.prompt_tokens[len(before.prompt_tokens) - len(tail) :])
            assert cut == report.num_cut


def test_by_hand() -> None:
    """BOS + 9 prompt tokens and 3 of a completion, limit 8: five prompt tokens go, from behind the BOS."""
    prompt = np.array([CHAT.bos, *range(1, 10)], np.int32)
    short = Group(
        prompt=(Message(Role.TEXT, "x"),),
        completions=(Completion(text="y", tokens=np.array([7, 8, 9], np.int32)),),
        prompt_tokens=prompt,
        id="g",
    )
    done = fit(CHAT, short, 8, "truncate_prompt_start")
    assert done.group is not None and done.group.prompt_tokens is not None
    assert done.group.prompt_tokens.tolist() == [CHAT.bos, 6, 7, 8, 9]
    assert (done.action, done.num_cut, done.length) == ("truncated", 5, 13)
    assert fit(CHAT, short, 13).action == "kept"
    assert fit(CHAT, short, 4, "truncate_prompt_start").group is None
    with pytest.raises(TrueupError, match=r"E556.*max_tokens = 12"):
        fit(CHAT, short, 12)


def test_a_group_without_tokens_is_an_error() -> None:
    with pytest.raises(TrueupError, match="E556"):
        fit(CHAT, Group(prompt=(Message(Role.USER, "x"),)), 8)
