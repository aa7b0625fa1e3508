"""What stands beside the messages of a row and belongs to the conversation: a system text, and tools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from trueup.data.fields import as_text
from trueup.data.problems import Fault
from trueup.data.tools import tools_of
from trueup.data.turns import Turns
from trueup.engine.groups import Group, Message, Role

SYSTEM = ("system", "system_prompt")
TOOLS = ("tools", "functions")
READ = frozenset((*SYSTEM, *TOOLS))
"Columns that are read whatever the format, but for plain text and trueup's own groups."
PLAIN = ("text", "group")
"Formats that have no conversation, or all of it, in their own fields."


def with_columns(groups: Sequence[Group], row: Mapping[str, Any]) -> Sequence[Group]:
    """The row's groups with its system text as a system turn, and its tools on the first message.

    A prompt of plain text is the user's turn then: a row that has such a column is a conversation. Raises
    Fault E305 for a second system text, E214 for tools that are none or settings of the template by row.
    """
    if row.get("chat_template_kwargs"):
        reason, field = "the row gives the template settings of its own", "chat_template_kwargs"
        raise Fault(
            "E214", reason, field=field, remedy="take them out; model.thinking sets one of them for all"
        )
    if READ.isdisjoint(row):
        return groups
    system, tools = _system(row), _tools(row)
    spoken = any(key in row for key in SYSTEM) or tools != ""
    return [replace(group, prompt=_told(group.prompt, system, tools, spoken)) for group in groups]


def _told(prompt: Turns, system: str, tools: str, spoken: bool) -> Turns:
    if spoken and len(prompt) == 1 and prompt[0].role is Role.TEXT:
        prompt = (replace(prompt[0], role=Role.USER),)
    if system and prompt[0].role is not Role.SYSTEM:
        prompt = (Message(Role.SYSTEM, system), *prompt)
    elif system and prompt[0].content.strip() != system.strip():
        raise Fault("E305", "a second system message", field="system", remedy="keep one of the two")
    return (replace(prompt[0], tools=tools), *prompt[1:]) if tools else prompt


def _system(row: Mapping[str, Any]) -> str:
    said = {as_text(row[key], key): key for key in SYSTEM if row.get(key) is not None}
    texts = [text for text in said if text.strip()]
    if len(texts) > 1:
        raise Fault(
            "E305", "two system texts that differ", field=said[texts[1]], remedy="keep one of the two"
        )
    return texts[0] if texts else ""


def _tools(row: Mapping[str, Any]) -> str:
    given = {key: tools_of(row[key], key) for key in TOOLS if row.get(key) is not None}
    found = [key for key, text in given.items() if text]
    if len(found) > 1:
        reason, remedy = "tools are given twice, as tools and as functions", "keep one of the two"
        raise Fault("E214", reason, field="functions", remedy=remedy)
    return given[found[0]] if found else ""
