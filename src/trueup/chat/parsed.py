"""The parsed form of a rendered conversation: the template's text, and places for what people wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from trueup.chat import woven


@dataclass(frozen=True, slots=True)
class Slot:
    """A place in the rendered text where the content of a message goes."""

    message: int
    part: Literal["content", "thought"]
    left: str | None = ""
    right: str | None = ""
    "What the template strips off the two ends, as the argument of `lstrip` and `rstrip`; '' for nothing."
    escaped: bool = False
    "Whether the template writes it as a JSON string, as Llama 3's does what a tool answers."

    def trim(self, content: str) -> str:
        """The content as the template leaves it."""
        kept = content.lstrip(self.left).rstrip(self.right)
        return escaped(kept) if self.escaped else kept


@dataclass(frozen=True, slots=True)
class Skeleton:
    """Rendered text without its contents: literal, slot, literal, ..., literal."""

    literals: tuple[str, ...]
    slots: tuple[Slot, ...]

    def splice(self, contents: Sequence[str]) -> str:
        """The text with these contents, one for each slot, in the slots."""
        parts = [self.literals[0]]
        for content, literal in zip(contents, self.literals[1:], strict=True):
            parts += [content, literal]
        return "".join(parts)


@dataclass(frozen=True, slots=True)
class Parsed:
    """A skeleton, and what a conversation must answer for its text to be the skeleton with its contents."""

    skeleton: Skeleton
    questions: tuple[tuple[Slot, str, str, bool], ...]
    "Of a content as stripped by a slot: what the template asked, with which text, and the answer."

    @classmethod
    def of(cls, reply: Mapping[str, Any], holes: Sequence[int]) -> Parsed | None:
        """The parsed form of what the sandbox replied; None unless each of the holes is in it once."""
        literals, slots = [""], []
        for piece in reply.get("pieces", ()):
            if isinstance(piece, str):
                literals[-1] += piece
            else:
                slots.append(_slot(*piece))
                literals.append("")
        if sorted(slot.message for slot in slots) != list(holes):
            return None
        asked = {(_slot(*hole), what, text, truth): None for *hole, what, text, truth in reply["seen"]}
        return cls(Skeleton(tuple(literals), tuple(slots)), tuple(asked))

    def contents(self, contents: Sequence[str]) -> list[str] | None:
        """What goes into each slot, of a conversation of this shape; None where it answers otherwise."""
        for slot, what, text, truth in self.questions:
            if woven.answer(slot.trim(contents[slot.message]), what, text) is not truth:
                return None
        return [slot.trim(contents[slot.message]) for slot in self.skeleton.slots]


def _slot(message: int, left: str | None, right: str | None) -> Slot:
    return Slot(message, "content", left, right)


def escaped(text: str) -> str:
    """The inside of the JSON string that transformers' `tojson` makes of a text."""
    return json.dumps(text, ensure_ascii=False)[1:-1]
