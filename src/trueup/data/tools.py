"""Tools and calls of them, in the forms that files have: OpenAI's, its older `functions`, JSON as text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from trueup.data import strict_json
from trueup.data.fields import as_text, optional_text, required, typed
from trueup.data.problems import Fault, show
from trueup.engine.groups import ToolCall

_CALL = 'write {"type": "function", "function": {"name": ..., "arguments": {...}}}'
_TOOL = 'write {"type": "function", "function": {"name": ..., "parameters": {...}}}'


def calls_of(message: Mapping[str, Any], field: str) -> tuple[ToolCall, ...]:
    """The calls of a message: `tool_calls`, or the one `function_call` of older files. Raises Fault E214."""
    old = message.get("function_call")
    found = message.get("tool_calls") or ([] if old is None else [old])
    name = "tool_calls" if message.get("tool_calls") else "function_call"
    found = _parsed(found, f"{field}.{name}")
    listed = typed(found, list, f"{field}.{name}", "a list of calls", _CALL)
    return tuple(_call(item, f"{field}.{name}[{index}]") for index, item in enumerate(listed))


def call_in_text(text: str) -> tuple[ToolCall, ...]:
    """The call, or calls, that a text is: JSON with `name` and `arguments`; none where it is another text."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return ()
    items = value if isinstance(value, list) else [value]
    if not items or not all(isinstance(i, dict) and set(i) == {"name", "arguments"} for i in items):
        return ()
    return tuple(_call(item, "value") for item in items)


def tools_of(value: Any, field: str) -> str:
    """The tools of a row as a JSON list, "" for none. Raises Fault E214 for what is no tool.

    `functions` of older files, which stand for themselves, are told as tools of that type.
    """
    found = _parsed(value, field)
    for index, item in enumerate(typed(found, list, field, "a list of tools", _TOOL)):
        where = f"{field}[{index}]"
        inner = typed(item, Mapping, where, "a tool", _TOOL).get("function", item)
        if not isinstance(inner, Mapping) or not isinstance(inner.get("name"), str) or not inner["name"]:
            raise Fault("E214", "a tool without a name", field=where, found=show(item), remedy=_TOOL)
    if field == "functions":
        found = [{"type": "function", "function": item} for item in found]
    return json.dumps(found, ensure_ascii=False) if found else ""


def arguments_of(value: Any, field: str) -> str:
    """The arguments of a call as a JSON object; a text must be one already. Raises Fault E214."""
    if value is None or value == "":
        return "{}"
    found = _parsed(value, field)
    if not isinstance(found, Mapping):
        reason, remedy = "the arguments are not a JSON object", 'write them as {"name": value}'
        raise Fault("E214", reason, field=field, found=show(value), remedy=remedy)
    return value if isinstance(value, str) else json.dumps(found, ensure_ascii=False)


def _call(value: Any, field: str) -> ToolCall:
    item = typed(value, Mapping, field, "a call", _CALL)
    inner = typed(item.get("function", item), Mapping, f"{field}.function", "a call", _CALL)
    name = as_text(required(inner, "name", field), f"{field}.name")
    if not name.strip():
        raise Fault("E214", "a call without a name", field=field, found=show(name), remedy=_CALL)
    arguments = arguments_of(inner.get("arguments"), f"{field}.arguments")
    return ToolCall(name, arguments, optional_text(item, "id"))


def _parsed(value: Any, field: str) -> Any:
    """The value, read out of its JSON where it is text. Raises Fault E214 where that is none."""
    if not isinstance(value, str):
        return value
    try:
        return strict_json.loads(value.encode("utf-8", "surrogatepass")) if value.strip() else []
    except Fault as fault:
        remedy = "write JSON, or the value itself"
        raise Fault(
            "E214", f"is no JSON: {fault.reason}", field=field, found=show(value), remedy=remedy
        ) from None
