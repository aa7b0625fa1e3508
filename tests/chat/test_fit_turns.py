"""A dialogue over the limit loses whole turns from its start; what is left is encoded as if it were all."""

from __future__ import annotations

import numpy as np
import pytest

from chat_shapes import shapes
from trueup.chat import Chat, fit
from trueup.engine.groups import Completion, Group, Message, Role

S, U, A = Role.SYSTEM, Role.USER, Role.ASSISTANT
NAMES = [shape.name for shape in shapes()]


def chat(name: str) -> Chat:
    return Chat.of(next(shape for shape in shapes() if shape.name == name).tokenizer, name)


def mask(completion: Completion) -> np.ndarray:
    """Which of its tokens are trained on."""
    given = completion.supervised
    return np.ones(completion.num_tokens, bool) if given is None else given


def dialogue(system: bool) -> tuple[Message, ...]:
    turns = [Message(U, "one two three"), Message(A, "four"), Message(U, "five"), Message(A, "six seven")]
    return (*([Message(S, "be kind")] if system else []), *turns, Message(U, "eight nine"))


@pytest.mark.parametrize("train_on", ["last", "all"])
@pytest.mark.parametrize("system", [False, True])
def test_every_limit_leaves_whole_turns(system: bool, train_on: str) -> None:
    made = chat("llama3")
    messages = dialogue(system)
    answers = (Completion(text="ten"), Completion(text="eleven twelve"))
    group = made.encode(Group(prompt=messages, completions=answers, id="g"), train_on=train_on)  # pyright: ignore
    assert group.prompt_tokens is not None
    head = messages[: int(system)]
    wanted = [(*head, *messages[start:]) for start in (int(system), int(system) + 2, int(system) + 4)]
    lengths = [len(made.prompt_ids(kept)) + made.completion_ids(answers[1].text).size for kept in wanted]
    assert lengths[0] > lengths[1] > lengths[2]
    seen = set()
    for limit in range(lengths[2] - 2, lengths[0] + 2):
        done = fit(made, group, limit, "truncate_prompt_start")
        place = next((k for k, length in enumerate(lengths) if length <= limit), None)
        seen.add(place)
        if place is None:
            assert done.group is None and done.action == "dropped"
            continue
        assert done.group is not None and done.group.prompt == wanted[place]
        assert done.num_cut == lengths[0] - lengths[place]
        whole = made.encode(Group(prompt=wanted[place], completions=answers), train_on=train_on)  # pyright: ignore
        assert np.array_equal(done.group.prompt_tokens, whole.prompt_tokens)  # pyright: ignore
        for ours, theirs in zip(done.group.completions, whole.completions, strict=True):
            assert np.array_equal(ours.tokens, theirs.tokens)  # pyright: ignore
            assert np.array_equal(mask(ours), mask(theirs))
    assert seen == {0, 1, 2, None}


def test_a_tools_turn_goes_with_the_question_it_belongs_to() -> None:
    made = chat("chatml")
    messages = (
        *(Message(U, "weather?"), Message(A, "let me look"), Message(Role.TOOL, "rain"), Message(A, "rain")),
        *(Message(U, "and tomorrow?"), Message(A, "let me look"), Message(Role.TOOL, "sun")),
    )
    group = made.encode(Group(prompt=messages, completions=(Completion(text="sun"),)))
    assert group.prompt_tokens is not None and group.completions[0].tokens is not None
    longest = len(group.prompt_tokens) + len(group.completions[0].tokens)
    done = fit(made, group, longest - 1, "truncate_prompt_start")
    assert done.group is not None and done.group.prompt == messages[4:]


@pytest.mark.parametrize("train_on", ["last", "all"])
def test_of_many_turns_few_places_are_looked_at(train_on: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many tokens are left as when every place is tried, and of 300 places ten are."""
    made = chat("chatml")
    turns = [
        message for k in range(300) for message in (Message(U, f"w{k} " * (1 + k % 7)), Message(A, "so"))
    ]
    messages = (Message(S, "be kind"), *turns, Message(U, "last"))
    group = made.encode(Group(prompt=messages, completions=(Completion(text="yes"),)), train_on=train_on)  # pyright: ignore
    lengths = {
        start: len(made.prompt_ids((messages[0], *messages[start:]))) + made.completion_ids("yes").size
        for start in range(1, len(messages), 2)
    }
    tried: list[Group] = []
    real = Chat.encode
    monkeypatch.setattr(Chat, "encode", lambda self, g, **said: tried.append(g) or real(self, g, **said))
    for limit in (lengths[3], lengths[151] - 1, lengths[599], lengths[601]):
        tried.clear()
        done = fit(made, group, limit, "truncate_prompt_start").group
        start = next(start for start, length in lengths.items() if start > 1 and length <= limit)
        assert done is not None and done.prompt == (messages[0], *messages[start:])
        assert len(tried) <= 11
