"""Alpaca instructions, their preference and KTO forms, and Self-Instruct seed tasks."""

from __future__ import annotations

from typing import Any

from trueup.data.fields import Row, filled_text, label, listed, optional_text, required, text
from trueup.data.formats.pairs import pair
from trueup.data.formats.plain import answered
from trueup.data.layout import Format, keys
from trueup.data.problems import Fault, show
from trueup.data.turns import Turns
from trueup.engine.groups import Group, Message, Role

_MAY = keys("input", "system", "history")


def instruction_prompt(instruction: str, input_: str) -> str:
    """The instruction, with its input on the next line where there is one."""
    return f"{instruction}\n{input_}" if input_.strip() else instruction


def _prompt(row: Row) -> Turns:
    system = optional_text(row, "system")
    asked = instruction_prompt(filled_text(row, "instruction"), optional_text(row, "input"))
    first = (Message(Role.SYSTEM, system),) if system.strip() else ()
    return (*first, *_history(row.get("history")), Message(Role.USER, asked))


def _history(value: Any) -> Turns:
    if value is None or value in ("", []):
        return ()
    made: list[Message] = []
    for index, item in enumerate(listed({"history": value}, "history")):
        two = item if isinstance(item, list) and len(item) == 2 else None
        if two is None or not all(isinstance(said, str) and said.strip() for said in two):
            raise Fault(
                "E205",
                "is not a pair of question and answer",
                field=f"history[{index}]",
                found=show(item),
                remedy='write [["question", "answer"], ...]',
            )
        made += [Message(Role.USER, two[0]), Message(Role.ASSISTANT, two[1])]
    return tuple(made)


def _parse_alpaca(row: Row) -> tuple[Group]:
    return answered(_prompt(row), text(row, "output"), field="output")


def _parse_preference(row: Row) -> tuple[Group]:
    return pair(_prompt(row), text(row, "chosen"), text(row, "rejected"))


def _parse_unpaired(row: Row) -> tuple[Group]:
    return answered(_prompt(row), text(row, "output"), field="output", good=label(row, "kto_tag"))


def _parse_seed_task(row: Row) -> tuple[Group, ...]:
    instruction = filled_text(row, "instruction")
    found: list[Group] = []
    for index, instance in enumerate(listed(row, "instances")):
        where = f"instances[{index}]"
        if not isinstance(instance, dict):
            raise Fault(
                "E205", "is not an object", field=where, found=show(instance), remedy="write {input, output}"
            )
        asked = instruction_prompt(instruction, optional_text(instance, "input"))
        answer = required(instance, "output", where)
        if not isinstance(answer, str):
            raise Fault(
                "E205",
                "is not a string",
                field=f"{where}.output",
                found=show(answer),
                remedy="write a string",
            )
        found += answered((Message(Role.USER, asked),), answer, field=f"{where}.output")
    return tuple(found)


FORMATS = (
    Format(
        name="alpaca",
        about="Alpaca: instruction, input, output; system and history where there are any",
        needs=(keys("instruction", "output"),),
        may=_MAY,
        beside=keys("text"),
        parse=_parse_alpaca,
    ),
    Format(
        name="alpaca-preference",
        about="Alpaca preference: instruction, input, chosen, rejected",
        needs=(keys("instruction", "chosen", "rejected"),),
        may=_MAY,
        beside=keys("output"),
        parse=_parse_preference,
    ),
    Format(
        name="alpaca-unpaired",
        about="Alpaca KTO: instruction, input, output, kto_tag (true is good)",
        needs=(keys("instruction", "output", "kto_tag"),),
        may=_MAY,
        parse=_parse_unpaired,
    ),
    Format(
        name="self-instruct",
        about="Self-Instruct seed tasks: instruction, instances [{input, output}]",
        needs=(keys("instruction", "instances"),),
        parse=_parse_seed_task,
    ),
)
