"""Prompts, texts, prompt with completion, and completions with a yes or no."""

from __future__ import annotations

from typing import Any

from trueup.data import turns
from trueup.data.fields import Row, as_text, filled, label, required
from trueup.data.formats import reads
from trueup.data.formats.pairs import prompt_of
from trueup.data.problems import Fault
from trueup.data.turns import Turns
from trueup.engine.groups import Group, Message, Role, Score


def answered(prompt: Turns, said: str | Message, *, field: str, good: bool | None = None) -> tuple[Group]:
    """The group of one answer; `good` is an unpaired label, kept as score 1 or 0 of judge "label"."""
    completion = turns.completion(said)
    if not completion.tool_calls:
        filled(completion.text, field, code="E402")
    if isinstance(said, Message) and not said.supervised:
        raise turns.unsupervised(field)
    scores = () if good is None else (Score(completion=0, value=float(good), judge="label"),)
    return (Group(prompt=prompt, completions=(completion,), scores=scores),)


@reads("prompt")
def prompts(row: Row) -> tuple[Group]:
    """Prompts only: prompt, as a string or as messages that end with a user turn."""
    key = "messages" if "prompt" not in row and "messages" in row else "prompt"
    return (Group(prompt=prompt_of(required(row, key), key, Role.TEXT)),)


@reads("text")
def text(row: Row) -> tuple[Group]:
    """Plain text for language modelling: text."""
    start = (Message(Role.TEXT, ""),)
    return answered(start, filled(as_text(required(row, "text"), "text"), "text"), field="text")


@reads("prompt, completion")
def prompt_completion(row: Row) -> tuple[Group]:
    """Demonstrations: prompt, completion."""
    return answered(*_prompt_and_answer(row), field="completion")


@reads("prompt, completion, label")
def unpaired(row: Row) -> tuple[Group]:
    """Unpaired preferences (TRL, KTO): prompt, completion, label (true is good)."""
    return answered(*_prompt_and_answer(row), field="completion", good=label(row, "label"))


def _prompt_and_answer(row: Row) -> tuple[Turns, str | Message]:
    completion = required(row, "completion")
    prompt = required(row, "prompt")
    if isinstance(completion, str):
        return prompt_of(prompt, "prompt", Role.TEXT), completion
    return prompt_of(prompt, "prompt", Role.USER), one_answer(completion, "completion")


def one_answer(value: Any, field: str) -> Message:
    """The turn of a completion written as a message or as a list of one. Raises Fault E302 or E410."""
    messages = turns.conversation([value] if isinstance(value, dict) else value, field)
    answer, *further = messages
    if answer.role is not Role.ASSISTANT:
        found, remedy = str(answer.role), 'give it the role "assistant"'
        reason = "the completion is not an assistant turn"
        raise Fault("E302", reason, field=f"{field}[0]", found=found, remedy=remedy)
    if further:
        found, remedy = turns.roles(messages), "move all turns but the last into the prompt"
        raise Fault("E410", "the completion is more than one turn", field=field, found=found, remedy=remedy)
    return answer
