"""How far our ids agree with those of the template's text encoded as one string, on text without tricks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Literal

import numpy as np

from trueup.chat.encoder import Chat
from trueup.groups import Message, Role

Reason = Literal["boundary", "space", "control", "text"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One conversation whose ids are not those of the rendered string."""

    row: int
    at: int
    "The first position where they differ."
    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    "Up to four tokens from there."
    reason: Reason
    """`boundary`: the same text, cut into other tokens where a content meets the template.
    `space`: the texts differ in white space only (a leading space, a space held back for the answer).
    `control`: the string has control tokens that the structure has not: the text spells one.
    `text`: the texts differ, as for a template that treats the last turn otherwise in a prompt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How many conversations there were, how many agree, and each difference with its reason."""

    num_rows: int
    differences: tuple[Difference, ...]

    @property
    def num_equal(self) -> int:
        """How many conversations have the same ids both ways."""
        return self.num_rows - len(self.differences)

    def counts(self) -> dict[str, int]:
        """How many differences there are of each reason that occurs."""
        reasons = [difference.reason for difference in self.differences]
        return {reason: reasons.count(reason) for reason in sorted(set(reasons))}


def agreement(chat: Chat, conversations: Iterable[Sequence[Message]]) -> Agreement:
    """The comparison of our ids with the template's text encoded as one string.

    That is what `apply_chat_template` gives. A conversation that ends with an assistant's turn is compared up
    to that turn's stop token, another one with its generation prompt.
    """
    differences = []
    num_rows = 0
    for row, messages in enumerate(conversations):
        num_rows += 1
        ours, theirs = _ours(chat, messages), _theirs(chat, messages)
        if ours != theirs:
            differences.append(_difference(chat, row, ours, theirs))
    return Agreement(num_rows=num_rows, differences=tuple(differences))


def _answered(messages: Sequence[Message]) -> bool:
    return messages[-1].role == Role.ASSISTANT


def _ours(chat: Chat, messages: Sequence[Message]) -> list[int]:
    if not _answered(messages):
        return chat.prompt_ids(messages).tolist()
    prompt = chat.prompt_ids(messages[:-1])
    return np.concatenate([prompt, chat.completion_ids(messages[-1].content)]).tolist()


def _theirs(chat: Chat, messages: Sequence[Message]) -> list[int]:
    text = chat.rendered(messages, generation=not _answered(messages))
    ids: list[int] = chat.codec.whole.encode(text, add_special_tokens=False).ids
    if _answered(messages):
        last = max((k for k, number in enumerate(ids) if number == chat.stop_ids[0]), default=len(ids) - 1)
        ids = ids[: last + 1]
    return ids


def _difference(chat: Chat, row: int, ours: list[int], theirs: list[int]) -> Difference:
    at = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(ours, theirs, strict=False))))
    names = chat.codec.names
    ours_text, theirs_text = chat.codec.decode(ours), chat.codec.decode(theirs)
    reason: Reason = "text"
    if [k for k in ours if k in names] != [k for k in theirs if k in names]:
        reason = "control"
    elif ours_text == theirs_text:
        reason = "boundary"
    elif "".join(ours_text.split()) == "".join(theirs_text.split()):
        reason = "space"

    def tokens(ids: list[int]) -> tuple[str, ...]:
        return tuple(str(chat.codec.whole.id_to_token(number)) for number in ids[at : at + 4])

    return Difference(row=row, at=at, ours=tokens(ours), theirs=tokens(theirs), reason=reason)
