"""A written context to put before prompts: dialogues of a world, or of a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from trueup.data import read
from trueup.engine.groups import Completion, Group, Message, Role
from trueup.worlds import door_of, open_world

HHH, REAL_HHH = "world:hhh", "hhh"
_PACKAGED = Path(__file__).with_name("hhh.jsonl")
"Fourteen dialogues of a helpful, honest and harmless assistant in the real world, written for this project."


def open_context(reference: str, num_dialogues: int) -> tuple[Message, ...]:
    """The first dialogues that `reference` names, as turns: `world:hhh`, `hhh`, or a file of demonstrations.

    `world:hhh` is about that world, `hhh` about the real one, with fourteen dialogues. A row whose prompt is
    plain text is a dialogue of two turns: the text is the user's.
    """
    door = door_of(reference)
    if door is not None:
        found = open_world(door.world).dialogues(door.name, num_dialogues)
        return open_context(found, num_dialogues) if isinstance(found, str) else found
    dialogues = read(_PACKAGED if reference == REAL_HHH else reference).groups[:num_dialogues]
    return tuple(
        message
        for group in dialogues
        for message in (*map(_turn, group.prompt), _answer(group.completions[0]))
    )


def _answer(c: Completion) -> Message:
    return Message(Role.ASSISTANT, c.text, thinking=c.thinking, tool_calls=c.tool_calls)


def _turn(message: Message) -> Message:
    return Message(Role.USER, message.content) if message.role == Role.TEXT else message


def under_context(
    context: Sequence[Message], prompt_ids: Callable[[Sequence[Message]], np.ndarray]
) -> Callable[[Group], Group]:
    """A function that gives a group with the context before its prompt, after a system message if any.

    Before a prompt of plain text, which has no turns, the dialogues are written out as text. An empty context
    changes nothing.
    """

    def under(group: Group) -> Group:
        return replace(group, prompt_tokens=prompt_ids(in_front(context, group.prompt))) if context else group

    return under


def in_front(context: Sequence[Message], prompt: Sequence[Message]) -> tuple[Message, ...]:
    """The messages of a prompt with the context before them."""
    if prompt and prompt[0].role == Role.TEXT:
        written = "".join(f"{message.role.title()}: {message.content}\n\n" for message in context)
        return (Message(Role.TEXT, written + prompt[0].content),)
    system = 1 if prompt and prompt[0].role == Role.SYSTEM else 0
    return (*prompt[:system], *context, *prompt[system:])
