"""Prompts, texts, prompt with completion, and completions with a yes or no."""

from __future__ import annotations

from typing import Any

from trueup.data import turns
from trueup.data.fields import Row, filled, filled_text, label, required
from trueup.data.formats.pairs import prompt_of
from trueup.data.layout import Format, keys
from trueup.data.problems import Fault
from trueup.data.turns import Turns
from trueup.engine.groups import Completion, Group, Message, Role, Score


def answered(
    prompt: Turns, text: str, *, field: str, source: str = "", good: bool | None = None
) -> tuple[Group]:
    """The group of one answer; `good` is an unpaired label, kept as score 1 or 0 of judge "label"."""
    filled(text, field, code="E402")
    scores = () if good is None else (Score(completion=0, value=float(good), judge="label"),)
    return (Group(prompt=prompt, completions=(Completion(text=text, source=source),), scores=scores),)


def _parse_prompts(row: Row) -> tuple[Group]:
    key = "messages" if "prompt" not in row and "messages" in row else "prompt"
    return (Group(prompt=prompt_of(required(row, key), key, Role.TEXT)),)


def _parse_text(row: Row) -> tuple[Group]:
    start = (Message(Role.TEXT, ""),)
    return answered(start, filled_text(row, "text"), field="text")


def _parse_completion(row: Row) -> tuple[Group]:
    return answered(*_prompt_and_answer(row), field="completion")


def _parse_unpaired(row: Row) -> tuple[Group]:
    return answered(*_prompt_and_answer(row), field="completion", good=label(row, "label"))


def _prompt_and_answer(row: Row) -> tuple[Turns, str]:
    completion = required(row, "completion")
    prompt = required(row, "prompt")
    if isinstance(completion, str):
        return prompt_of(prompt, "prompt", Role.TEXT), completion
    return prompt_of(prompt, "prompt", Role.USER), one_answer(completion, "completion")


def one_answer(value: Any, field: str) -> str:
    """The text of a completion written as a message or as a list of one. Raises Fault E302 or E410."""
    messages = turns.conversation([value] if isinstance(value, dict) else value, field)
    answer, *further = messages
    if answer.role is not Role.ASSISTANT:
        raise Fault(
            "E302",
            "the completion is not an assistant turn",
            field=f"{field}[0]",
            found=str(answer.role),
            remedy='give it the role "assistant"',
        )
    if further:
        raise Fault(
            "E410",
            "the completion is more than one turn",
            field=field,
            found=" ".join(item.role for item in messages[:6]),
            remedy="move all turns but the last into the prompt",
        )
    return answer.content


FORMATS = (
    Format(
        name="prompts",
        about="prompts only: prompt, as a string or as messages that end with a user turn",
        needs=(keys("prompt"),),
        parse=_parse_prompts,
    ),
    Format(
        name="text",
        about="plain text for language modelling: text",
        needs=(keys("text"),),
        parse=_parse_text,
    ),
    Format(
        name="prompt-completion",
        about="demonstrations: prompt, completion",
        needs=(keys("prompt", "completion"),),
        parse=_parse_completion,
    ),
    Format(
        name="unpaired",
        about="unpaired preferences (TRL, KTO): prompt, completion, label (true is good)",
        needs=(keys("prompt", "completion", "label"),),
        parse=_parse_unpaired,
    ),
)
