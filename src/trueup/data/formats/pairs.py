"""Preference pairs: Anthropic's HH text, and `prompt, chosen, rejected` as strings or conversations."""

from __future__ import annotations

import re
from typing import Any

from trueup.data import turns
from trueup.data.fields import Row, as_text, filled, required, text
from trueup.data.formats import reads
from trueup.data.problems import Fault, show
from trueup.data.turns import Turns
from trueup.engine.groups import Comparison, Group, Message, Role

_TURN = re.compile(r"\n\n(Human|Assistant):")
_ANSWER = "\n\nAssistant:"
SIDES = ("chosen", "rejected")
_HH_ROLES = {"Human": Role.USER, "Assistant": Role.ASSISTANT}


def pair(prompt: Turns, chosen: str | Message, rejected: str | Message) -> tuple[Group]:
    """The group of one preference. Raises Fault E401 for equal sides, E402 for an empty one, and E216."""
    sides = [turns.completion(side, field) for field, side in zip(SIDES, (chosen, rejected), strict=True)]
    for said, side in zip((chosen, rejected), sides, strict=True):
        if not side.tool_calls:
            filled(side.text, side.source, code="E402")
        if isinstance(said, Message) and not said.supervised:
            raise turns.unsupervised(side.source)
    first, second = ((side.text.strip(), side.thinking, side.tool_calls) for side in sides)
    if first == second:
        raise _same(show(sides[1].text))
    return (Group(prompt=prompt, completions=tuple(sides), comparisons=(Comparison(a=0, b=1, choice="a"),)),)


def _same(found: str) -> Fault:
    reason, remedy = "chosen and rejected are the same", "remove the row: it prefers nothing"
    return Fault("E401", reason, field="rejected", found=found, remedy=remedy)


def part(chosen: Turns, rejected: Turns) -> tuple[Turns, Message, Message]:
    """The shared turns, and the one answer in which each side differs. Raises Fault E401, E403, E410."""
    if chosen == rejected:
        raise _same(f"{len(rejected)} equal turns")
    shared = turns.shared_start(chosen, rejected)
    if shared == 0:
        reason, found = "the two sides answer different prompts", show(rejected[0].content)
        remedy = "both conversations must begin with the same turns"
        raise Fault("E403", reason, field="rejected[0]", found=found, remedy=remedy)
    for field, side in zip(SIDES, (chosen, rejected), strict=True):
        rest = side[shared:]
        if len(rest) != 1 or rest[0].role is not Role.ASSISTANT:
            reason, found = "the two sides part before the last answer", turns.roles(rest) or "no turn left"
            remedy = "keep the turns up to the first difference, one answer on each side"
            raise Fault("E410", reason, field=f"{field}[{shared}]", found=found, remedy=remedy)
    return turns.as_prompt(chosen[:shared], "chosen"), chosen[-1], rejected[-1]


# ------------------------------------------------------------------------------------------- HH text


def _hh_turns(text: str, field: str) -> Turns:
    pieces = _TURN.split(text if text.startswith("\n\n") else f"\n\n{text}")
    if len(pieces) < 3 or pieces[0].strip() or pieces[1] != "Human":
        reason, found = 'the dialogue does not begin with "Human:"', show(text.lstrip()[:40])
        remedy = r'write "\n\nHuman: ...\n\nAssistant: ..."'
        raise Fault("E308", reason, field=field, found=found, remedy=remedy)
    made = [
        Message(_HH_ROLES[who], what.strip()) for who, what in zip(pieces[1::2], pieces[2::2], strict=True)
    ]
    if made[-1].role is Role.ASSISTANT and not made[-1].content:
        filled("", field, code="E402")
    turns.check_order(tuple(made), field)
    return tuple(made)


def _looks_hh(row: Row) -> bool:
    return any(isinstance(row.get(key), str) and _TURN.search(f"\n\n{row[key]}") for key in SIDES)


@reads("chosen, rejected", fits=lambda row: "prompt" not in row and _looks_hh(row))
def hh(row: Row) -> tuple[Group]:
    """Anthropic HH: two dialogues as text, with turns 'Human:' and 'Assistant:'."""
    chosen, rejected = (text(row, key) for key in SIDES)
    first = _hh_turns(chosen, "chosen")
    cut = chosen.rfind(_ANSWER)
    if cut > 0 and rejected.startswith(_ANSWER, cut) and rejected[:cut] == chosen[:cut]:
        # Nearly every row: the sides differ in the last answer alone, so the rest is read once.
        rest = rejected[cut + len(_ANSWER) :]
        if not _TURN.search(rest):
            return pair(*part(first, (*first[:-1], Message(Role.ASSISTANT, rest.strip()))))
    return pair(*part(first, _hh_turns(rejected, "rejected")))


# ------------------------------------------------------------------------------- prompt, chosen, rejected


@reads("chosen, rejected", "prompt, chosen, rejected", fits=lambda row: "prompt" in row or not _looks_hh(row))
def preference(row: Row) -> tuple[Group]:
    """Preference pairs (TRL): prompt, chosen, rejected; the prompt may be implicit."""
    chosen, rejected = (_side(required(row, key), key) for key in SIDES)
    if isinstance(chosen, str) and isinstance(rejected, str):
        return _plain_pair(row, chosen, rejected)
    if isinstance(chosen, str) or isinstance(rejected, str):
        reason, remedy = "one side is a string, the other a conversation", "write both sides in the same way"
        raise Fault("E205", reason, field="rejected", found=show(row["rejected"]), remedy=remedy)
    prompt = () if row.get("prompt") is None else prompt_of(row["prompt"], "prompt", Role.USER)
    return pair(*part(_behind(prompt, chosen, "chosen"), _behind(prompt, rejected, "rejected")))


def _side(value: Any, field: str) -> str | Turns:
    messages = [value] if isinstance(value, dict) else value
    if not isinstance(messages, list):
        return as_text(value, field)
    refuse_empty(messages[-1] if messages else None, field)
    return turns.conversation(messages, field)


def refuse_empty(message: Any, field: str) -> None:
    """None. Raises Fault E402 for a message whose text is empty and that calls no tool."""
    if not isinstance(message, dict) or message.get("tool_calls") or message.get("function_call"):
        return
    if not str(message.get("content", message.get("value", "-")) or "").strip():
        filled("", field, code="E402")


def prompt_of(value: Any, field: str, role: Role) -> Turns:
    """A prompt that is a string (one turn of `role`) or a conversation that waits for an answer."""
    if isinstance(value, list):
        return turns.as_prompt(turns.conversation(value, field), field)
    return (Message(role, filled(as_text(value, field), field)),)


def _behind(prompt: Turns, side: Turns, field: str) -> Turns:
    """The whole conversation of one side; a side may repeat the prompt or only continue it."""
    if not prompt or side[: len(prompt)] == prompt:
        return side
    if side[0].role in (Role.SYSTEM, Role.USER):
        reason, found = "the side does not continue the prompt", show(side[0].content)
        remedy = "begin with the prompt's turns, or hold only the answer"
        raise Fault("E403", reason, field=f"{field}[0]", found=found, remedy=remedy)
    return prompt + side


def _plain_pair(row: Row, chosen: str, rejected: str) -> tuple[Group]:
    if "prompt" in row:
        return pair(prompt_of(required(row, "prompt"), "prompt", Role.TEXT), chosen, rejected)
    if chosen.strip() == rejected.strip():
        return pair((), chosen, rejected)
    cut = _shared_words(chosen, rejected)
    if not chosen[:cut].strip():
        reason, found = "there is no prompt, and the two sides share no beginning", show(rejected[:60])
        raise Fault("E403", reason, field="prompt", found=found, remedy='add "prompt"')
    return pair((Message(Role.TEXT, chosen[:cut]),), chosen[cut:], rejected[cut:])


def _shared_words(left: str, right: str) -> int:
    """Where the first differing word begins, the space before it included."""
    cut = turns.shared_start(left, right)
    ends = [cut < len(side) and not side[cut].isspace() for side in (left, right)]
    while cut and any(ends) and not left[cut - 1].isspace():
        cut -= 1
    while cut and left[cut - 1].isspace():
        cut -= 1
    return cut
