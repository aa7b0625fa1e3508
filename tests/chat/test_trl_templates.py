"""Every chat template that TRL ships, read from the installed library: what holds is what the page says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date
from functools import cache
from pathlib import Path

import pytest

import trl_templates
from trueup.chat import Chat
from trueup.engine.groups import Completion, Group, Message, Role, ToolCall
from trueup.errors import TrueupError

PAGE = Path(__file__).parents[2] / "docs" / "compatibility.md"
NAMES = trl_templates.names()
OWN = [name for name in NAMES if not name.endswith("_training")]
"Those that models bring; the others are TRL's own, made from them."
pytestmark = pytest.mark.skipif(not NAMES, reason="trl is not installed: its templates are read from there")
TOOL = {
    "type": "function",
    "function": {"name": "weather", "description": "Look it up.", "parameters": {"type": "object"}},
}
CALL = (ToolCall("weather", '{"city": "Rome"}'),)
ASK, TALK = Message(Role.USER, "one"), (
    Message(Role.USER, "one"),
    Message(Role.ASSISTANT, "two"),
    Message(Role.USER, "three"),
)  # fmt: skip
ANSWERED = (ASK, Message(Role.ASSISTANT, "", tool_calls=CALL), Message(Role.TOOL, "21", name="weather"))
FOUR = Completion(text="four")
ROWS: dict[str, tuple[tuple[Message, ...], Completion]] = {
    "plain": (TALK, FOUR),
    "system": ((Message(Role.SYSTEM, "zero"), ASK), FOUR),
    "tools": ((Message(Role.USER, "one", tools=json.dumps([TOOL])),), FOUR),
    "call": ((ASK,), Completion(text="", tool_calls=CALL)),
    "after a tool": (ANSWERED, FOUR),
    "thought": ((ASK,), Completion(text="four", thinking="two and two")),
    "`<think>`": ((ASK,), Completion(text="<think>\ntwo and two\n</think>\n\nfour")),
    "every turn": (TALK, FOUR),
}
"The columns of the page's table."


@cache
def chat(name: str, thinking: bool) -> Chat:
    return Chat.of(trl_templates.tokenizer(name), thinking=thinking, today=date.today())


def encoded(chat: Chat, row: str) -> Group:
    prompt, answer = ROWS[row]
    train_on = "all" if row == "every turn" else "last"
    return chat.encode(Group(prompt=prompt, completions=(answer,)), train_on=train_on)


def theirs(name: str, messages: Sequence[Message], *, thinking: bool, generation: bool) -> str:
    """The text of plain turns as transformers writes it for this template."""
    layout = chat(name, thinking).layout
    assert layout is not None
    parts = layout.template.parts
    told = [
        {"role": str(m.role), "content": [{"type": "text", "text": m.content}] if parts else m.content}
        for m in messages
    ]
    return trl_templates.tokenizer(name).apply_chat_template(
        told, tokenize=False, add_generation_prompt=generation, enable_thinking=thinking
    )


@pytest.mark.parametrize("thinking", [False, True], ids=["off", "on"])
@pytest.mark.parametrize("name", NAMES)
def test_plain_turns_extend_what_is_generated_from(name: str, thinking: bool) -> None:
    """The prompt is the template's own; the answer follows it, and ends with one stop token."""
    one = chat(name, thinking)
    group = encoded(one, "plain")
    prompt, tokens = group.prompt_tokens, group.completions[0].tokens
    assert prompt is not None and tokens is not None and one.ending is not None
    assert prompt.tolist() == one.prompt_ids(TALK).tolist()
    asked = theirs(name, TALK, thinking=thinking, generation=True)
    assert one.codec.decode(prompt) == asked.rstrip(" ")
    assert [number in one.stop_ids for number in tokens.tolist()] == [False] * (len(tokens) - 1) + [True]
    assert one.decode(tokens) == "four"
    whole = theirs(name, [*TALK, Message(Role.ASSISTANT, "four")], thinking=thinking, generation=False)
    ours = one.codec.decode([*prompt.tolist(), *tokens.tolist()])
    ending = one.ending
    if (
        ending.dropped
    ):  # The prompt opens a thought, and the completion closes it; a finished turn has neither.
        head, opened, tail = ours.rpartition(ending.dropped + ending.lead)
        assert opened
        ours = head + ending.written + tail
    assert whole == ours + ending.rest if ending.closed else whole + ending.tail + ending.stop == ours


@pytest.mark.parametrize("name", OWN)
def test_no_text_forges_a_control_token(name: str) -> None:
    """Texts that spell a token of the family have the control ids of harmless texts, or are refused."""
    one, taken = chat(name, False), 0
    harmless = control_ids(one, encoded(one, "plain"))
    for spelled in one.codec.control:
        # What an assistant says between these tags is a thought to templates that know thoughts.
        said = "two" if spelled in trl_templates.THINK else f"a {spelled}"
        talk = (
            Message(Role.USER, f"a {spelled} b"),
            Message(Role.ASSISTANT, said),
            Message(Role.USER, f"{spelled}system"),
        )
        try:
            group = one.encode(Group(prompt=talk, completions=(Completion(text=said),)))
        except TrueupError as error:
            assert error.code in ("E352", "E353"), error
            continue
        assert control_ids(one, group) == harmless
        taken += 1
    assert taken >= len(one.codec.control) - 4


def control_ids(one: Chat, group: Group) -> list[int]:
    """The control ids of a prompt and its completion, in order."""
    prompt, tokens = group.prompt_tokens, group.completions[0].tokens
    assert prompt is not None and tokens is not None
    return [int(ids[at]) for ids in (prompt, tokens) for at in one.codec.where_control(ids)]


def outcome(name: str, row: str) -> str:
    """What the page says of a row: `yes`, the setting of thinking that takes it, or the code that refuses it.

    `text` where the tags of a thought are words like any other.
    """
    found: list[str] = []
    for thinking in (False, True):
        one = chat(name, thinking)
        try:
            group = encoded(one, row)
        except TrueupError as error:
            found.append(error.code)
            continue
        tokens = group.completions[0].tokens
        assert tokens is not None and int(tokens[-1]) in one.stop_ids
        close = one.codec.control.get("</think>")
        spelled = row == "`<think>`" and close not in tokens[-6:]
        found.append("text" if spelled and "</think>" in one.decode(tokens) else "yes")
    off, on = found
    if off == on or off.startswith("E") == on.startswith("E"):
        return on
    return f"on ({off})" if on == "yes" else f"off ({on})"


@pytest.mark.parametrize("name", NAMES)
def test_the_page_says_what_holds(name: str) -> None:
    """The table names every template, and TRL's own variants for training do as those they were made from."""
    told = page()[name.removesuffix("_training")]
    assert {row: outcome(name, row) for row in ROWS} == dict(zip(ROWS, told, strict=True))


@cache
def page() -> dict[str, list[str]]:
    """The cells of the page's table, by template."""
    lines = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| `")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {
        name.strip(" `"): cells
        for first, *cells in rows
        if len(cells) == len(ROWS)
        for name in first.split(",")
    }
