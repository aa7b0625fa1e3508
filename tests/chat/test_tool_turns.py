"""Tool dialogues with every turn trained on: what they cost, and that each turn is found where it lies."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from chat_shapes import shapes, shipped
from trueup.chat import Chat, bounded, turn_spans
from trueup.engine.groups import Completion, Group, Message, Role, ToolCall
from trueup.errors import TrueupError

SHAPES = {shape.name: shape for shape in shapes()}
TOOLS = json.dumps(
    [
        {
            "type": "function",
            "function": {"name": "weather", "description": "look", "parameters": {"type": "object"}},
        }
    ]
)
DONE = (Completion(text="Done."),)


def episode(number: int, calls: int = 1, **said: Any) -> list[Message]:
    """A question, calls with their answers, and a reply: every call with another argument."""
    asked = ToolCall("weather", json.dumps({"city": f"city{number}"}), f"call{number:05d}")
    called = Message(Role.ASSISTANT, "", tool_calls=(asked,), **said)
    answered = Message(Role.TOOL, f"{number} degrees", tool_call_id=f"call{number:05d}", name="weather")
    ask = Message(Role.USER, f"city {number}?", tools="" if number else TOOLS)
    return [
        ask,
        *(m for _ in range(calls) for m in (called, answered)),
        Message(Role.ASSISTANT, f"It is {number}."),
    ]


def dialogue(turns: int) -> Group:
    """Half its assistant's turns are calls, and it ends with a question."""
    said = [m for number in range(turns // 2) for m in episode(number)]
    return Group(prompt=(*said, Message(Role.USER, "and now?")), completions=DONE)


# One family every day; another thousand calls tell no more of the search, which knows no template.
@pytest.mark.parametrize("name", ["qwen3", pytest.param("llama3_1", marks=pytest.mark.slow)])
def test_a_tool_dialogue_is_rendered_in_proportion_to_its_turns(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages in all renderings, for each turn: as many of 1,000 turns as of 10."""
    chat, rendered, real = Chat.of(shipped(name)), [], bounded.render
    monkeypatch.setattr(bounded, "render", lambda *a: rendered.append(len(a[2]["messages"])) or real(*a))
    each: list[float] = []
    times: list[int] = []
    for turns in (10, 100, 1000):
        rendered.clear()
        mask = chat.encode(dialogue(turns), train_on="all").completions[0].supervised
        assert mask is not None and np.count_nonzero(np.diff(mask.astype(int)) == 1) == turns
        each.append(sum(rendered) / turns)
        times.append(len(rendered))
    assert max(each) <= 1.1 * min(each), "a hundred times if quadratic"
    assert times[2] - times[0] <= 2 * times[0], "renderings: some more each time that the turns double"


def everything_rendered(chat: Chat, group: Group, monkeypatch: pytest.MonkeyPatch) -> Group:
    with monkeypatch.context() as each:
        each.setattr(turn_spans, "_kinds", lambda messages: range(len(messages)))
        return chat.encode(group, train_on="all")


# Writes the number of each turn into its header, and of each question how many messages there are.
NUMBERED = (
    "{% for m in messages %}<|im_start|>{{ m.role }} {{ loop.index }}\n"
    "{% for c in m.tool_calls or [] %}{{ c.function | tojson }}{% endfor %}{{ m.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant {{ messages | length + 1 }}\n{% endif %}"
)


@pytest.mark.parametrize("name", ["qwen3", "llama3_1", "qwen2_5", "numbered"])
def test_each_turn_lies_where_rendering_them_all_finds_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls in a row, blank contents, unsupervised turns; a header that is another one for every turn."""
    chat = Chat.of(SHAPES["chatml"].tokenizer, NUMBERED) if name == "numbered" else Chat.of(shipped(name))
    random = np.random.default_rng(0)
    said: list[Message] = []
    for number in range(12):
        said += episode(number, calls=int(random.integers(0, 4)))
    said = [
        replace(m, supervised=bool(random.random() < 0.8)) if m.role is Role.ASSISTANT else m for m in said
    ]
    said = [replace(m, content="\n") if m.role is Role.TOOL and random.random() < 0.2 else m for m in said]
    if name == "numbered":
        said[0] = replace(said[0], tools="")
    group = Group(prompt=(*said, Message(Role.USER, "and now?")), completions=DONE)
    some, every = chat.encode(group, train_on="all"), everything_rendered(chat, group, monkeypatch)
    for ours, theirs in zip(some.completions, every.completions, strict=True):
        assert ours.tokens is not None and ours.supervised is not None
        assert theirs.tokens is not None and theirs.supervised is not None
        assert np.array_equal(ours.tokens, theirs.tokens) and np.array_equal(
            ours.supervised, theirs.supervised
        )
    ids, mask = some.completions[0].tokens, some.completions[0].supervised
    assert ids is not None and mask is not None
    trained = chat.codec.decode(ids[mask])
    assert all((m.content in trained) == m.supervised for m in said if m.role is Role.ASSISTANT and m.content)


def test_a_turn_whose_context_is_not_that_of_generation_is_refused_wherever_it_stands() -> None:
    """Qwen3 drops a thought once another question follows; the calls behind it were made in its sight."""
    chat = Chat.of(shipped("qwen3"), thinking=True)
    for place in (0, 17, 38):
        said = [m for k in range(40) for m in episode(k, calls=3)]
        where = next(k for k in range(8 * place, len(said)) if said[k].tool_calls)
        said[where] = replace(said[where], thinking="I must look.")
        group = Group(prompt=(*said, Message(Role.USER, "and now?")), completions=DONE)
        with pytest.raises(TrueupError, match=r"E363 .*as it would be generated"):
            chat.encode(group, train_on="all")
