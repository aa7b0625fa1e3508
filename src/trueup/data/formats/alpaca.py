"""Alpaca instructions, their preference and KTO forms, and Self-Instruct seed tasks."""

from __future__ import annotations

from typing import Any

from trueup.data.fields import Row, as_text, filled, label, listed, optional_text, required, text, typed
from trueup.data.formats import reads
from trueup.data.formats.pairs import pair
from trueup.data.formats.plain import answered
from trueup.data.problems import Fault, show
from trueup.data.turns import Turns
from trueup.engine.groups import Group, Message, Role

_MAY = "input, system, history"


@reads("instruction, output", may=_MAY, beside="text")
def alpaca(row: Row) -> tuple[Group]:
    """Alpaca: instruction, input, output; system and history where there are any."""
    return answered(_prompt(row), text(row, "output"), field="output")


@reads("instruction, chosen, rejected", may=_MAY, beside="output")
def alpaca_preference(row: Row) -> tuple[Group]:
    """Alpaca preference: instruction, input, chosen, rejected."""
    return pair(_prompt(row), text(row, "chosen"), text(row, "rejected"))


@reads("instruction, output, kto_tag", may=_MAY)
def alpaca_unpaired(row: Row) -> tuple[Group]:
    """Alpaca KTO: instruction, input, output, kto_tag (true is good)."""
    return answered(_prompt(row), text(row, "output"), field="output", good=label(row, "kto_tag"))


@reads("instruction, instances")
def self_instruct(row: Row) -> tuple[Group, ...]:
    """Self-Instruct seed tasks: instruction, instances [{input, output}]."""
    instruction = filled(text(row, "instruction"), "instruction")
    found: list[Group] = []
    for index, item in enumerate(listed(row, "instances")):
        where = f"instances[{index}]"
        instance = typed(item, dict, where, "an object", "write {input, output}")
        asked = instruction_prompt(instruction, optional_text(instance, "input"))
        answer = as_text(required(instance, "output", where), f"{where}.output")
        found += answered((Message(Role.USER, asked),), answer, field=f"{where}.output")
    return tuple(found)


def instruction_prompt(instruction: str, input_: str) -> str:
    """The instruction, with its input on the next line where there is one."""
    return f"{instruction}\n{input_}" if input_.strip() else instruction


def _prompt(row: Row) -> Turns:
    asked = instruction_prompt(filled(text(row, "instruction"), "instruction"), optional_text(row, "input"))
    return (*_history(row.get("history")), Message(Role.USER, asked))


def _history(value: Any) -> Turns:
    if value is None or value in ("", []):
        return ()
    made: list[Message] = []
    for index, item in enumerate(listed({"history": value}, "history")):
        two = item if isinstance(item, list) and len(item) == 2 else None
        if two is None or not all(isinstance(said, str) and said.strip() for said in two):
            reason, remedy = "is not a pair of question and answer", 'write [["question", "answer"], ...]'
            raise Fault("E205", reason, field=f"history[{index}]", found=show(item), remedy=remedy)
        made += [Message(Role.USER, two[0]), Message(Role.ASSISTANT, two[1])]
    return tuple(made)
