"""Conversations: OpenAI chat (`messages`) and ShareGPT (`conversations`), with pairs and labels."""

from __future__ import annotations

from functools import partial

from trueup.data import turns
from trueup.data.fields import Row, as_text, filled, label, required
from trueup.data.formats.pairs import pair
from trueup.data.formats.plain import answered, one_answer
from trueup.data.layout import Format, keys
from trueup.data.problems import Fault
from trueup.data.turns import Turns
from trueup.engine.groups import Group, Message, Role


def _messages(row: Row, key: str) -> Turns:
    messages = turns.conversation(required(row, key), key)
    system = row.get("system")
    if system is None or not as_text(system, "system").strip():
        return messages
    if messages[0].role is Role.SYSTEM:
        raise Fault("E305", "a second system message", field="system", remedy="keep one of the two")
    return (Message(Role.SYSTEM, system), *messages)


def _parse_chat(row: Row, *, key: str) -> tuple[Group]:
    prompt, text = turns.split_answer(_messages(row, key), key)
    return answered(prompt, text, field=key)


def _parse_labelled(row: Row, *, key: str) -> tuple[Group]:
    prompt, text = turns.split_answer(_messages(row, key), key)
    return answered(prompt, text, field=key, good=label(row, "label" if "label" in row else "kto_tag"))


def _parse_sharegpt_pair(row: Row) -> tuple[Group]:
    prompt = turns.as_prompt(_messages(row, "conversations"), "conversations")
    sides: list[str] = []
    for key in ("chosen", "rejected"):
        value = required(row, key)
        if isinstance(value, dict) and not str(value.get("value", value.get("content", "-")) or "").strip():
            filled("", f"{key}.value", code="E402")
        sides.append(value if isinstance(value, str) else one_answer(value, key))
    return pair(prompt, sides[0], sides[1])


FORMATS = (
    Format(
        name="chat",
        about="OpenAI chat, TRL conversations: messages [{role, content}], the last from the assistant",
        needs=(keys("messages"),),
        may=keys("system"),
        parse=partial(_parse_chat, key="messages"),
    ),
    Format(
        name="chat-unpaired",
        about="conversations with a yes or no: messages, label (or kto_tag)",
        needs=(keys("messages", "label"), keys("messages", "kto_tag")),
        may=keys("system"),
        parse=partial(_parse_labelled, key="messages"),
    ),
    Format(
        name="sharegpt",
        about="ShareGPT: conversations [{from: human|gpt|system, value}]",
        needs=(keys("conversations"),),
        may=keys("system"),
        parse=partial(_parse_chat, key="conversations"),
    ),
    Format(
        name="sharegpt-preference",
        about="ShareGPT preference: conversations, chosen {from, value}, rejected {from, value}",
        needs=(keys("conversations", "chosen", "rejected"),),
        may=keys("system"),
        parse=_parse_sharegpt_pair,
    ),
    Format(
        name="sharegpt-unpaired",
        about="ShareGPT with a yes or no: conversations, label (or kto_tag)",
        needs=(keys("conversations", "label"), keys("conversations", "kto_tag")),
        may=keys("system"),
        parse=partial(_parse_labelled, key="conversations"),
    ),
)
