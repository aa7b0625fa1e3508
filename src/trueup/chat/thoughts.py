"""An assistant's thought beside what it said: one text, as a policy's sample shows both."""

from __future__ import annotations

from collections.abc import Sequence

from trueup.chat.render import CLOSE, OPEN, Turn
from trueup.engine.groups import Group, Message
from trueup.errors import TrueupError


def without_thought(group: Group) -> bool:
    """Whether there are completions, none of them encoded, and none begins with a thought."""
    fresh = group.prompt_tokens is None and all(c.tokens is None for c in group.completions)
    thoughts = any(c.thinking or CLOSE in c.text for c in group.completions)
    return fresh and bool(group.completions) and not thoughts


def spoken_text(message: Message) -> str:
    """What an assistant said with what it thought before it. E354 where the thought holds another's tags."""
    if not message.thinking.strip():
        return message.content
    if OPEN in message.thinking or CLOSE in message.thinking:
        reason = "a thought holds a part of another thought block"
        raise TrueupError("E354", reason, remedy="take the tags out of the thought")
    return f"{OPEN}\n{message.thinking}\n{CLOSE}\n\n{message.content}"


def turns_of(messages: Sequence[Message]) -> list[Turn]:
    """The roles and texts of messages that say no more than these, as a layout takes them."""
    return [(str(message.role), spoken_text(message)) for message in messages]
