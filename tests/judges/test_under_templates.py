"""Our own words in a judge's question are no marker of any template that a judge may have."""

from __future__ import annotations

import pytest

from chat_shapes import TOOLED, shapes, shipped
from plain_roles import plain_roles
from trueup.chat import Chat
from trueup.engine.groups import Message, Role, ToolCall
from trueup.judges.wording import conversation_text, read_wording

SHAPES = {shape.name: shape for shape in (*shapes(), *plain_roles())}
TALK = (
    Message(Role.SYSTEM, "Be brief."),
    Message(Role.USER, "What is 2 + 3?"),
    Message(Role.ASSISTANT, "", tool_calls=(ToolCall("add", '{"a": 2, "b": 3}'),)),
    Message(Role.TOOL, "5"),
    Message(Role.ASSISTANT, "It is 5."),
    Message(Role.USER, "Are you sure?"),
)
SAID = {
    "compare": {"first": "Yes.", "second": "No."},
    "score": {"completion": "Yes."},
}


def questions() -> list[tuple[Message, ...]]:
    """Every question of a judge that has a chat template: for a letter, and for reasons."""
    wordings = [(read_wording(name), said) for name, said in SAID.items()]
    return [
        wording.fill(ask, conversation=conversation_text(TALK), **said)
        for wording, said in wordings
        for ask in (wording.letter, wording.reasons)
    ]


@pytest.mark.parametrize("name", SHAPES)
def test_a_judges_question_passes_under_every_template(name: str) -> None:
    shape = SHAPES[name]
    chat = Chat.of(shape.tokenizer, shape.template, fold_system=not shape.system)
    for question in questions():
        ids = chat.prompt_ids(question)
        assert "The assistant says: It is 5." in chat.codec.decode(ids.tolist())


@pytest.mark.parametrize("name", TOOLED)
def test_and_under_the_templates_that_an_installed_library_ships(name: str) -> None:
    chat = Chat.of(shipped(name))
    for question in questions():
        assert "The user says: Are you sure?" in chat.codec.decode(chat.prompt_ids(question).tolist())
