"""Conversations: OpenAI chat (`messages`) and ShareGPT (`conversations`), with pairs and labels."""

from __future__ import annotations

from trueup.data import turns
from trueup.data.fields import Row, label, required
from trueup.data.formats import reads
from trueup.data.formats.pairs import SIDES, pair, refuse_empty
from trueup.data.formats.plain import answered, one_answer
from trueup.data.turns import Turns
from trueup.engine.groups import Group, Message


@reads("messages", may="system")
def chat(row: Row) -> tuple[Group]:
    """OpenAI chat, TRL conversations: messages [{role, content}], the last from the assistant."""
    return _answered(row, "messages")


@reads("messages, label", "messages, kto_tag", may="system")
def chat_unpaired(row: Row) -> tuple[Group]:
    """Conversations with a yes or no: messages, label (or kto_tag)."""
    return _labelled(row, "messages")


@reads("conversations", may="system")
def sharegpt(row: Row) -> tuple[Group]:
    """ShareGPT: conversations [{from: human|gpt|system, value}]."""
    return _answered(row, "conversations")


@reads("conversations, label", "conversations, kto_tag", may="system")
def sharegpt_unpaired(row: Row) -> tuple[Group]:
    """ShareGPT with a yes or no: conversations, label (or kto_tag)."""
    return _labelled(row, "conversations")


@reads("conversations, chosen, rejected", may="system")
def sharegpt_preference(row: Row) -> tuple[Group]:
    """ShareGPT preference: conversations, chosen {from, value}, rejected {from, value}."""
    prompt = turns.as_prompt(_messages(row, "conversations"), "conversations")
    sides: list[str | Message] = []
    for key in SIDES:
        value = required(row, key)
        refuse_empty(value, f"{key}.value")
        sides.append(value if isinstance(value, str) else one_answer(value, key))
    return pair(prompt, sides[0], sides[1])


def _answered(row: Row, key: str, good: bool | None = None) -> tuple[Group]:
    prompt, text = turns.split_answer(_messages(row, key), key)
    return answered(prompt, text, field=key, good=good)


def _labelled(row: Row, key: str) -> tuple[Group]:
    return _answered(row, key, good=label(row, "label" if "label" in row else "kto_tag"))


def _messages(row: Row, key: str) -> Turns:
    return turns.conversation(required(row, key), key)
