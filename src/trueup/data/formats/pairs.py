"""Preference pairs: Anthropic's HH text, and `prompt, chosen, rejected` as strings or conversations."""

from __future__ import annotations

import re
from typing import Any

from trueup.data import turns
from trueup.data.fields import Row, as_text, filled, required
from trueup.data.layout import Format, keys
from trueup.data.problems import Fault, show
from trueup.data.turns import Turns
from trueup.engine.groups import Comparison, Completion, Group, Message, Role

_TURN = re.compile(r"\n\n(Human|Assistant):")
_ANSWER = "\n\nAssistant:"
SIDES = ("chosen", "rejected")
_HH_ROLES = {"Human": Role.USER, "Assistant": Role.ASSISTANT}


def pair(prompt: Turns, chosen: str, rejected: str) -> tuple[Group]:
    """The group of one preference. Raises Fault E401 for equal sides and E402 for an empty one."""
    for field, side in zip(SIDES, (chosen, rejected), strict=True):
        filled(side, field, code="E402")
    if chosen.strip() == rejected.strip():
        raise Fault(
            "E401",
            "chosen and rejected are the same",
            field="rejected",
            found=show(rejected),
            remedy="remove the row: it prefers nothing",
        )
    sides = (Completion(text=chosen, source="chosen"), Completion(text=rejected, source="rejected"))
    return (Group(prompt=prompt, completions=sides, comparisons=(Comparison(a=0, b=1, choice="a"),)),)


def part(chosen: Turns, rejected: Turns) -> tuple[Turns, str, str]:
    """The shared turns, and the one answer in which each side differs. Raises Fault E401, E403, E410."""
    if chosen == rejected:
        raise Fault(
            "E401",
            "chosen and rejected are the same",
            field="rejected",
            found=f"{len(rejected)} equal turns",
            remedy="remove the row: it prefers nothing",
        )
    shared = turns.shared_start(chosen, rejected)
    if shared == 0:
        raise Fault(
            "E403",
            "the two sides answer different prompts",
            field="rejected[0]",
            found=show(rejected[0].content),
            remedy="both conversations must begin with the same turns",
        )
    for field, side in (("chosen", chosen), ("rejected", rejected)):
        rest = side[shared:]
        if len(rest) != 1 or rest[0].role is not Role.ASSISTANT:
            raise Fault(
                "E410",
                "the two sides part before the last answer",
                field=f"{field}[{shared}]",
                found=" ".join(item.role for item in rest[:6]) or "no turn left",
                remedy="keep the turns up to the first difference, one answer on each side",
            )
    return turns.as_prompt(chosen[:shared], "chosen"), chosen[-1].content, rejected[-1].content


# ------------------------------------------------------------------------------------------- HH text


def _hh_turns(text: str, field: str) -> Turns:
    pieces = _TURN.split(text if text.startswith("\n\n") else f"\n\n{text}")
    if len(pieces) < 3 or pieces[0].strip() or pieces[1] != "Human":
        raise Fault(
            "E308",
            'the dialogue does not begin with "Human:"',
            field=field,
            found=show(text.lstrip()[:40]),
            remedy=r'write "\n\nHuman: ...\n\nAssistant: ..."',
        )
    made = [
        Message(_HH_ROLES[who], what.strip()) for who, what in zip(pieces[1::2], pieces[2::2], strict=True)
    ]
    if made[-1].role is Role.ASSISTANT and not made[-1].content:
        filled("", field, code="E402")
    turns.check_order(tuple(made), field)
    return tuple(made)


def _parse_hh(row: Row) -> tuple[Group]:
    chosen, rejected = (as_text(required(row, key), key) for key in SIDES)
    first = _hh_turns(chosen, "chosen")
    cut = chosen.rfind(_ANSWER)
    if cut > 0 and rejected.startswith(_ANSWER, cut) and rejected[:cut] == chosen[:cut]:
        # Nearly every row: the sides differ in the last answer alone, so the rest is read once.
        rest = rejected[cut + len(_ANSWER) :]
        if not _TURN.search(rest):
            return pair(*part(first, (*first[:-1], Message(Role.ASSISTANT, rest.strip()))))
    return pair(*part(first, _hh_turns(rejected, "rejected")))


def _looks_hh(row: Row) -> bool:
    return any(isinstance(row.get(key), str) and _TURN.search(f"\n\n{row[key]}") for key in SIDES)


def _not_hh(row: Row) -> bool:
    return "prompt" in row or not _looks_hh(row)


# ------------------------------------------------------------------------------- prompt, chosen, rejected


def _parse_preference(row: Row) -> tuple[Group]:
    chosen, rejected = (_side(required(row, key), key) for key in ("chosen", "rejected"))
    if isinstance(chosen, str) != isinstance(rejected, str):
        raise Fault(
            "E205",
            "one side is a string, the other a conversation",
            field="rejected",
            found=show(row["rejected"]),
            remedy="write both sides in the same way",
        )
    if isinstance(chosen, str) and isinstance(rejected, str):
        return _plain_pair(row, chosen, rejected)
    assert not isinstance(chosen, str) and not isinstance(rejected, str)
    prompt = () if row.get("prompt") is None else prompt_of(row["prompt"], "prompt", Role.USER)
    return pair(*part(_behind(prompt, chosen, "chosen"), _behind(prompt, rejected, "rejected")))


def _side(value: Any, field: str) -> str | Turns:
    if isinstance(value, str):
        return value
    if not isinstance(value, list | dict):
        as_text(value, field)
    if isinstance(value, dict):
        value = [value]
    if isinstance(value, list) and value:
        last = value[-1]
        if isinstance(last, dict) and not str(last.get("content", last.get("value", "-")) or "").strip():
            filled("", field, code="E402")
    return turns.conversation(value, field)


def prompt_of(value: Any, field: str, role: Role) -> Turns:
    """A prompt that is a string (one turn of `role`) or a conversation that waits for an answer."""
    if not isinstance(value, str | list):
        as_text(value, field)
    if isinstance(value, str):
        return (Message(role, filled(value, field)),)
    return turns.as_prompt(turns.conversation(value, field), field)


def _behind(prompt: Turns, side: Turns, field: str) -> Turns:
    """The whole conversation of one side; a side may repeat the prompt or only continue it."""
    if not prompt or side[: len(prompt)] == prompt:
        return side
    if side[0].role in (Role.SYSTEM, Role.USER):
        raise Fault(
            "E403",
            "the side does not continue the prompt",
            field=f"{field}[0]",
            found=show(side[0].content),
            remedy="begin with the prompt's turns, or hold only the answer",
        )
    return prompt + side


def _plain_pair(row: Row, chosen: str, rejected: str) -> tuple[Group]:
    if "prompt" in row:
        return pair(prompt_of(required(row, "prompt"), "prompt", Role.TEXT), chosen, rejected)
    if chosen.strip() == rejected.strip():
        return pair((), chosen, rejected)
    cut = _shared_words(chosen, rejected)
    if not chosen[:cut].strip():
        raise Fault(
            "E403",
            "there is no prompt, and the two sides share no beginning",
            field="prompt",
            found=show(rejected[:60]),
            remedy='add "prompt"',
        )
    return pair((Message(Role.TEXT, chosen[:cut]),), chosen[cut:], rejected[cut:])


def _shared_words(left: str, right: str) -> int:
    """Where the first differing word begins, the space before it included."""
    cut = 0
    while cut < min(len(left), len(right)) and left[cut] == right[cut]:
        cut += 1
    ends = [cut < len(side) and not side[cut].isspace() for side in (left, right)]
    while cut and any(ends) and not left[cut - 1].isspace():
        cut -= 1
    while cut and left[cut - 1].isspace():
        cut -= 1
    return cut


FORMATS = (
    Format(
        name="hh",
        about="Anthropic HH: two dialogues as text, with turns 'Human:' and 'Assistant:'",
        needs=(keys("chosen", "rejected"),),
        parse=_parse_hh,
        fits=lambda row: "prompt" not in row and _looks_hh(row),
    ),
    Format(
        name="preference",
        about="preference pairs (TRL): prompt, chosen, rejected; the prompt may be implicit",
        needs=(keys("chosen", "rejected"), keys("prompt", "chosen", "rejected")),
        parse=_parse_preference,
        fits=_not_hh,
    ),
)
