"""Conversations out of rows: messages with roles, checked for order, split into prompt and completion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from trueup.data.fields import as_text, filled, optional_text, truth, typed
from trueup.data.problems import Fault, keys_of, nearest, show
from trueup.data.tools import call_in_text, calls_of
from trueup.engine.groups import Completion, Message, Role

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
_CALLING = ("function_call", "tool_call")
"Names of the assistant whose text is a call, where it can be read as one."
_TRAINED = ("weight", "loss", "train", "training", "trainable", "loss_weight", "loss_mask")
_THOUGHT = ("reasoning_content", "thinking", "reasoning")
_REFUSED = ("train_detail", "image", "images", "audio", "audios", "video", "videos")
KEYS = frozenset(
    {"role", "from", "content", "value", "tool_calls", "function_call", "tool_call_id", "name", "mask"}
    | {*_TRAINED, *_THOUGHT, *_REFUSED}
)
"Keys of a message that are honoured or refused."
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
    """One message, as {role, content} or {from, value}. Raises Fault E203 to E216 and E301."""
    typed(value, dict, field, "a message", 'write {"role": "user", "content": ...}')
    keys = ("from", "value") if "from" in value and "role" not in value else ("role", "content")
    role_key, content_key = keys
    calls = calls_of(value, field) if value.get("tool_calls") or value.get("function_call") else ()
    silent = bool(calls) and value.get(content_key) is None
    _check_keys(value, keys[:1] if silent else keys, field)
    role = _role(value[role_key], f"{field}.{role_key}")
    content = "" if silent else _content(value, content_key, field)
    if len(value) == 2 and not calls:
        plain = Message(role, content)
        return _read_call(plain) if str(value[role_key]).strip().lower() in _CALLING else plain
    return _with_keys(Message(role, content, tool_calls=calls), value, field)


def _check_keys(value: dict[str, Any], keys: Sequence[str], field: str) -> None:
    for key in keys:
        if key not in value:
            close, found = nearest(key, [str(name) for name in value]), f"keys {keys_of(value)}"
            remedy = f'rename "{close}" to "{key}"' if close else f'add "{key}"'
            raise Fault("E210", f'the message has no "{key}"', field=field, found=found, remedy=remedy)


def _read_call(said: Message) -> Message:
    """The message with the call that its text is, where it is one."""
    calls = call_in_text(said.content)
    return Message(said.role, "", tool_calls=calls) if calls else said


def _with_keys(said: Message, value: dict[str, Any], field: str) -> Message:
    """The message with what its further keys say. Raises Fault E205, E212, E214 to E216."""
    for key in _REFUSED:
        if value.get(key):
            reason = "a key that changes what the message means, and is not supported"
            raise Fault("E214", reason, field=f"{field}.{key}", remedy="remove the key, or the row")
    thinking = _thinking(value, field)
    assistant = said.role is Role.ASSISTANT
    if not assistant and (said.tool_calls or thinking):
        reason, found = f"a {said.role} turn with what only an assistant has", keys_of(value)
        raise Fault("E214", reason, field=field, found=found, remedy="move it to the assistant's turn")
    return replace(
        said,
        thinking=thinking,
        name=optional_text(value, "name", field),
        tool_call_id=optional_text(value, "tool_call_id", field),
        supervised=_supervised(value, field) if assistant else True,
    )


def _thinking(value: dict[str, Any], field: str) -> str:
    found = {optional_text(value, key, field): key for key in _THOUGHT}
    texts = [text for text in found if text.strip()]
    if len(texts) > 1:
        reason, where = "two thoughts of one turn that differ", f"{field}.{found[texts[1]]}"
        raise Fault("E215", reason, field=where, found=show(texts[1]), remedy="keep one of the two")
    return texts[0] if texts else ""


def _supervised(value: dict[str, Any], field: str) -> bool:
    """Whether a turn is trained on: no key of it says no."""
    said = [truth(value[key], f"{field}.{key}") for key in _TRAINED if value.get(key) is not None]
    masked = value.get("mask") is not None and truth(value["mask"], f"{field}.mask")
    return all(said) and not masked


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
        if not item.tool_calls:
            filled(item.content, where)


def as_prompt(messages: Turns, field: str) -> Turns:
    """The messages, when they wait for an answer: the last is the user's or a tool's. Raises Fault E303."""
    if not messages or messages[-1].role not in (Role.USER, Role.TOOL, Role.TEXT):
        last = str(messages[-1].role) if messages else "no message at all"
        remedy = "add the turn of the user that is to be answered"
        if messages and messages[-1].role is Role.ASSISTANT:
            remedy = "move the assistant's last turn into the completion"
        raise Fault(
            "E303", "the prompt does not end with a user turn", field=field, found=last, remedy=remedy
        )
    return messages


def split_answer(messages: Turns, field: str) -> tuple[Turns, Message]:
    """The prompt and the last assistant turn that is trained on; what follows it has no effect on a loss.

    Raises Fault E302, E303 or E307, and E216 where no turn is trained on.
    """
    if not any(item.role is Role.ASSISTANT for item in messages):
        remedy = "add the answer, or read the file with --format prompts"
        raise Fault("E302", "no assistant turn", field=field, found=roles(messages), remedy=remedy)
    last, where = messages[-1], f"{field}[{len(messages) - 1}]"
    if last.role is not Role.ASSISTANT:
        reason = "the conversation does not end with an assistant turn"
        remedy = "leave such turns off with --trim end, or add the answer"
        raise Fault("E303", reason, field=where, found=str(last.role), remedy=remedy)
    while messages and not (messages[-1].role is Role.ASSISTANT and messages[-1].supervised):
        messages = messages[:-1]
    if not messages:
        raise unsupervised(field)
    if len(messages) < 2 or messages[-2].role not in (Role.USER, Role.TOOL):
        where, remedy = f"{field}[{len(messages) - 1}]", "add the turn that the assistant answers"
        raise Fault("E307", "no user turn before the answer", field=where, remedy=remedy)
    return messages[:-1], messages[-1]


def unsupervised(field: str) -> Fault:
    """The fault of a row in which nothing is left to train on."""
    reason = "nothing is left to train on: every assistant turn has weight 0, loss false or the like"
    return Fault("E216", reason, field=field, remedy="give one of them weight 1, or remove the row")


def completion(said: str | Message, source: str = "") -> Completion:
    """The completion that an answer is, written as a text or as an assistant's message."""
    if isinstance(said, str):
        return Completion(text=said, source=source)
    return Completion(text=said.content, thinking=said.thinking, tool_calls=said.tool_calls, source=source)


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
            sides = (ROLES[close],) if close else (Role.USER, Role.ASSISTANT)
            remedy += f", or say which it is: {' or '.join(f'--roles.{name} {side}' for side in sides)}"
        raise Fault("E301", "an unknown role", field=field, found=show(name), remedy=remedy)
    return role


def _content(value: dict[str, Any], key: str, field: str) -> str:
    content = value[key]
    if content is None:
        remedy = "write the text, or the tool_calls that stand in its place"
        raise Fault("E206", "is null", field=f"{field}.{key}", remedy=remedy)
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
