"""Our own words in a judge's question are no marker of any template that a judge may have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import small_world
from chat_shapes import TOOLED, shapes, shipped
from plain_roles import plain_roles
from trueup.chat import Chat
from trueup.chat.templates import NAMED
from trueup.cli import main
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


def test_a_judge_without_system_turns_reads_the_wordings_before_the_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = small_world.make(tmp_path)
    (world / "my-model/chat_template.jinja").write_text(NAMED["hh"].source, encoding="utf-8")
    row = {"prompt": "What is 2 + 3?", "chosen": "It is 5.", "rejected": "It is 6."}
    (world / "pairs.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    read, real = list[str](), Chat.prompt

    def prompt(self: Chat, *given: Any, **named: Any) -> Any:
        made = real(self, *given, **named)
        read.append(self.codec.decode(made.ids.tolist()))
        return made

    monkeypatch.setattr(Chat, "prompt", prompt)
    paths = [str(world / name) for name in ("pairs.jsonl", "judged.jsonl")]
    assert main(["judge", *paths, "--by", f"lm:{world / 'my-model'}"]) == 0
    system = read_wording("compare").system.split("{")[0].strip()
    asked = [text for text in read if "It is 6." in text]
    assert system and len(asked) == 2, "both orders"
    assert all(text.index("Human:") < text.index(system) < text.index("What is 2 + 3?") for text in asked)
