"""A written context to put before prompts: dialogues of the lab, or of a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

import trueup.lab as lab
from trueup.data import read
from trueup.engine.groups import Group, Message, Role

HHH, REAL_HHH = "lab:hhh", "hhh"
_PACKAGED = Path(__file__).with_name("hhh.jsonl")
"Fourteen dialogues of a helpful, honest and harmless assistant in the real world, written for this project."


def open_context(reference: str, num_dialogues: int) -> tuple[Message, ...]:
    """The turns of the first dialogues that `reference` names: `lab:hhh`, `hhh`, or a file of demonstrations.

    `lab:hhh` is about the lab's world, `hhh` about the real one; both hold fourteen. A row whose prompt is
    plain text is a dialogue of two turns: the text is the user's.
    """
    if reference == HHH:
        return tuple(message for dialogue in lab.hhh_dialogues(num_dialogues) for message in dialogue)
    dialogues = read(_PACKAGED if reference == REAL_HHH else reference).groups[:num_dialogues]
    return tuple(
        message
        for group in dialogues
        for message in (*map(_turn, group.prompt), Message(Role.ASSISTANT, group.completions[0].text))
    )


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
