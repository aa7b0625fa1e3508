"""A chat request's messages and tools as a conversation, read as rows of files are and more strictly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from trueup.answerers import Conversation
from trueup.data.problems import Fault
from trueup.data.tools import tools_of
from trueup.data.turns import message
from trueup.engine.groups import Message
from trueup.errors import TrueupError

ROLES = ("system", "developer", "user", "assistant", "tool")
KEYS = frozenset(
    ("role", "content", "name", "tool_calls", "tool_call_id", "reasoning_content", "reasoning", "thinking")
)
"What a message may say; keys that are null say nothing, as clients send back what they were given."
MAX_DEPTH = 64
"How deep tools and calls may be nested."


def conversation_of(messages: Sequence[Any], tools: Any) -> Conversation:
    """The messages, the first with the tools; whether the model's template shows them, its chat says.

    Raises E702, which names the field, for what is no message, call or tool.
    """
    said = [_message(item, f"messages[{index}]") for index, item in enumerate(messages)]
    _refuse_deep(tools, "tools")
    try:
        given = tools_of([] if tools is None else tools, "tools")
    except Fault as fault:
        raise _refusal(fault) from None
    return (replace(said[0], tools=given), *said[1:]) if said else ()


def _message(item: Any, field: str) -> Message:
    if not isinstance(item, Mapping):
        raise _refused(field, "no message", 'send {"role": "user", "content": ...}')
    told = {key: value for key, value in item.items() if value is not None}
    for key in sorted(told.keys() - KEYS):
        raise _refused(f"{field}.{key}", "not supported", "leave it out")
    if told.get("role") not in ROLES:
        raise _refused(f"{field}.role", f"no role {told.get('role')!r}", f"one of {', '.join(ROLES)}")
    _refuse_deep(told, field)
    told.setdefault(
        "content", None
    )  # A call may stand without it; of anything else it is said to be missing.
    try:
        return message(told, field)
    except Fault as fault:
        raise _refusal(fault) from None


def _refuse_deep(value: Any, field: str) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [part for item in level for part in _inside(item)]
        if not level:
            return
    raise _refused(field, f"nested deeper than {MAX_DEPTH}", "send a flatter one")


def _inside(value: Any) -> Sequence[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    return value if isinstance(value, list) else ()


def _refusal(fault: Fault) -> TrueupError:
    return _refused(
        fault.field, fault.reason + (f" (found: {fault.found})" if fault.found else ""), fault.remedy
    )


def _refused(field: str, reason: str, remedy: str) -> TrueupError:
    return TrueupError("E702", reason, where=f"request {field}", remedy=remedy)
