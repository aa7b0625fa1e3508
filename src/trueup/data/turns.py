"""Conversations out of rows: messages with roles, checked for order, split into prompt and completion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trueup.data.fields import as_text, filled, typed
from trueup.data.problems import Fault, keys_of, nearest, show
from trueup.engine.groups import Message, Role

_NAMES = {
    Role.SYSTEM: ("system", "developer"),
    Role.USER: ("user", "human", "prompter", "customer"),
    Role.ASSISTANT: (
        *("assistant", "gpt", "gpt4", "gpt-4", "chatgpt", "bing", "bard", "claude", "gemini", "ai", "bot"),
        *("chatbot", "model", "function_call", "tool_call"),
    ),
    Role.TOOL: ("tool", "function", "observation", "function_response", "tool_response", "ipython"),
}
ROLES = {name: role for role, names in _NAMES.items() for name in names}
"Names of roles that are read without a map, in small letters."
Turns = tuple[Message, ...]


def conversation(value: Any, field: str) -> Turns:
    """The messages of a list, order checked. Raises Fault E205 to E213 and E301 to E306."""
    remedy = 'write [{"role": "user", "content": ...}, ...]'
    if not typed(value, list, field, "a list of messages", remedy):
        raise Fault("E207", "holds no message", field=field, remedy="add messages, or remove the row")
    messages = tuple(message(item, f"{field}[{index}]") for index, item in enumerate(value))
    check_order(messages, field)
    return messages


def message(value: Any, field: str) -> Message:
    """One message, as {role, content} or {from, value}. Raises Fault E203 to E213 and E301."""
    typed(value, dict, field, "a message", 'write {"role": "user", "content": ...}')
    keys = ("from", "value") if "from" in value and "role" not in value else ("role", "content")
    role_key, content_key = keys
    for key in keys:
        if key not in value:
            close, found = nearest(key, [str(name) for name in value]), f"keys {keys_of(value)}"
            remedy = f'rename "{close}" to "{key}"' if close else f'add "{key}"'
            raise Fault("E210", f'the message has no "{key}"', field=field, found=found, remedy=remedy)
    return Message(_role(value[role_key], f"{field}.{role_key}"), _content(value, content_key, field))


def check_order(messages: Turns, field: str) -> None:
    """None. Raises Fault E304 to E306 for two turns of one role in a row, a late system turn, empty text."""
    for index, (item, before) in enumerate(zip(messages, (None, *messages), strict=False)):
        where = f"{field}[{index}]"
        if item.role is Role.SYSTEM and index > 0:
            remedy = "move it to the front"
            raise Fault("E305", "a system message that is not first", field=where, remedy=remedy)
        if before is not None and item.role is before.role and item.role is not Role.TOOL:
            remedy = "join them into one, or add the turn between them"
            raise Fault("E304", f"two {item.role} turns in a row", field=where, remedy=remedy)
        filled(item.content, where)


def as_prompt(messages: Turns, field: str) -> Turns:
    """The messages, when they wait for an answer: the last is the user's or a tool's. Raises Fault E303."""
    if not messages or messages[-1].role not in (Role.USER, Role.TOOL, Role.TEXT):
        last = str(messages[-1].role) if messages else "no message at all"
        remedy = "move the assistant's last turn into the completion"
        raise Fault(
            "E303", "the prompt does not end with a user turn", field=field, found=last, remedy=remedy
        )
    return messages


def split_answer(messages: Turns, field: str) -> tuple[Turns, str]:
    """The prompt and the last assistant turn. Raises Fault E302, E303 or E307."""
    if not any(item.role is Role.ASSISTANT for item in messages):
        remedy = "add the answer, or read the file with --format prompts"
        raise Fault("E302", "no assistant turn", field=field, found=roles(messages), remedy=remedy)
    last, where = messages[-1], f"{field}[{len(messages) - 1}]"
    if last.role is not Role.ASSISTANT:
        reason = "the conversation does not end with an assistant turn"
        remedy = "leave such turns off with --trim end, or add the answer"
        raise Fault("E303", reason, field=where, found=str(last.role), remedy=remedy)
    if len(messages) < 2 or messages[-2].role not in (Role.USER, Role.TOOL):
        remedy = "add the turn that the assistant answers"
        raise Fault("E307", "no user turn before the answer", field=where, remedy=remedy)
    return messages[:-1], last.content


def shared_start(left: Sequence[object], right: Sequence[object]) -> int:
    """How many messages two conversations, or characters two strings, share from the start."""
    differ = (at for at, (a, b) in enumerate(zip(left, right, strict=False)) if a != b)
    return next(differ, min(len(left), len(right)))


def roles(messages: Sequence[Message]) -> str:
    """The roles of the first turns, in words."""
    return " ".join(item.role for item in messages[:6])


def _role(value: Any, field: str) -> Role:
    name = as_text(value, field)
    role = ROLES.get(name.strip().lower())
    if role is None:
        close = nearest(name, ROLES)
        remedy = f'write "{close}"' if close else "use system, user, assistant or tool"
        if name.isidentifier():
            remedy += f", or say which it is: --roles.{name} {ROLES.get(close, Role.ASSISTANT)}"
        raise Fault("E301", "an unknown role", field=field, found=show(name), remedy=remedy)
    return role


def _content(value: dict[str, Any], key: str, field: str) -> str:
    content = value[key]
    if content is None:
        reason = "is null" + (" beside tool_calls" if value.get("tool_calls") else "")
        remedy = "write the text; tool calls are read only when they are written as text"
        raise Fault("E206", reason, field=f"{field}.{key}", remedy=remedy)
    if not isinstance(content, list):
        return as_text(content, f"{field}.{key}")
    parts: list[str] = []
    for index, part in enumerate(content):
        where = f"{field}.{key}[{index}]"
        if not isinstance(part, dict) or part.get("type") != "text":
            kind = part.get("type") if isinstance(part, dict) else part
            found, remedy = show(kind), "remove the part"
            raise Fault("E213", "a part that is not text", field=where, found=found, remedy=remedy)
        parts.append(as_text(part.get("text"), f"{where}.text"))
    return "".join(parts)
