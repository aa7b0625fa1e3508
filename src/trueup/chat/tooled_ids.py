"""Token ids of conversations with tools, calls and thoughts: prompts, answers, and turns to be trained on."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from trueup.chat.assembly import Assembly
from trueup.chat.bounded import together
from trueup.chat.codec import Codec
from trueup.chat.ending import Ending
from trueup.chat.render import Slot
from trueup.chat.tooled import Teller, Told
from trueup.chat.turn_spans import Shown, Span
from trueup.engine.groups import Message, Role
from trueup.errors import TrueupError


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """Text in pieces, as it is laid out: literal, content, literal, ..., literal."""

    literals: Sequence[str]
    slots: Sequence[Slot]
    contents: Sequence[str]


@together()
def prompt_ids(
    teller: Teller, told: Told, messages: Sequence[Message], spoken: Sequence[int], stop_ids: Sequence[int]
) -> tuple[np.ndarray, dict[int, Span]]:
    """The ids of a told prompt, and of each message in `spoken`, an assistant's, where its turn lies.

    A turn begins where it would be generated and ends with its stop token, whose position is the range's
    second number. E363 where the template renders it otherwise than it asks for it.
    """
    marks = [told.marks[slot.message, slot.part] for slot in told.skeleton.slots]
    ends = Shown.of(teller, told, messages, stop_ids).spans(spoken)
    whole = Text(literals=told.skeleton.literals, slots=told.skeleton.slots, contents=told.contents)
    places = sorted({place for span in ends for place in span})
    ids, found = _laid(teller.codec, whole, marks, [str(m.role) for m in messages], places, begins=True)
    return ids, {k: (found[begin], found[end] - 1) for k, (begin, end) in zip(spoken, ends, strict=True)}


def answer_ids(
    teller: Teller,
    ending: Ending,
    prompt: Told,
    whole: Told,
    messages: Sequence[Message],
    stop_ids: Sequence[int],
    thought: str = "",
) -> np.ndarray:
    """The ids of a conversation's last message behind the prompt before it, up to its stop token.

    `thought` is what precedes it where only the prompt knows of thoughts. E353 where the template does not
    render the message as what follows its own prompt, E363 where it ends with no stop token.
    """
    skeleton, last = whole.skeleton, len(messages) - 1
    where = f"template {teller.layout.template.name}"
    before = sum(slot.message < last for slot in skeleton.slots)
    follows = [(s.message, s.part) for s in skeleton.slots[max(before - 1, 0) : before]]
    asked = [(s.message, s.part) for s in prompt.skeleton.slots[-1:]]
    own = skeleton.slots[before:]
    begun = _begun(ending, prompt.skeleton.literals[-1], skeleton.literals[before], thought, last)
    if follows != asked or any(slot.message < last for slot in own) or begun is None:
        reason = "the template does not render the completion as what follows its own prompt"
        remedy = "drop the row or name another template"
        raise TrueupError("E353", reason, where=where, remedy=remedy)
    literals = [*begun.literals, *skeleton.literals[before + 1 :]]
    literals[-1] = _ended(teller.codec, ending, literals[-1], bool(messages[-1].tool_calls), stop_ids, where)
    slots = [*begun.slots, *own]
    text = Text(literals=literals, slots=slots, contents=[*begun.contents, *whole.contents[before:]])
    roles = [str(message.role) for message in messages]
    return _laid(teller.codec, text, [""] * len(slots), roles, (), begins=False)[0]


def _begun(ending: Ending, header: str, literal: str, thought: str, last: int) -> Text | None:
    """What an answer has before its own first part, behind the header that asked for it; None elsewhere."""
    held = header.rstrip(" ")
    opened = bool(ending.dropped) and held.endswith(ending.dropped)
    if literal.startswith(header) and not (thought or (opened and ending.taken)):
        return Text(literals=[literal[len(held) :]], slots=[], contents=[])
    base = held.removesuffix(ending.dropped) + ending.written
    if not opened or not literal.startswith(base):
        return None
    if not thought.strip() or ending.thought is None:
        return Text(literals=[ending.lead + literal[len(base) :]], slots=[], contents=[])
    first, slot, between = ending.thought
    slot = replace(slot, message=last)
    literals = [first, between + literal[len(base) :]]
    return Text(literals=literals, slots=[slot], contents=[slot.trim(thought)])


def _ended(
    codec: Codec, ending: Ending, literal: str, calls: bool, stop_ids: Sequence[int], where: str
) -> str:
    """The template's text behind an answer's last part, up to its stop token."""
    closes = ending.call if calls else ending.tail + ending.stop
    literal = literal if ending.closed else literal + closes
    stops = list(codec.pattern.finditer(literal))
    if not stops or literal[stops[-1].end() :].strip() or not _is_stop(codec, stops[-1].group(), stop_ids):
        reason = f"the template ends the answer with {literal[-40:]!r}, which is no stop token of this chat"
        raise TrueupError("E363", reason, where=where, remedy="drop the row or name another template")
    return literal[: stops[-1].end()]


def _is_stop(codec: Codec, token: str, stop_ids: Sequence[int]) -> bool:
    return codec.control[token] in stop_ids


def _laid(
    codec: Codec,
    text: Text,
    marks: Sequence[str],
    roles: Sequence[str],
    places: Sequence[int],
    *,
    begins: bool,
) -> tuple[np.ndarray, dict[int, int]]:
    """The ids of a text, and the position in them of each of `places`, offsets in the text with `marks`.

    What a template writes behind an assistant's words or a tool's, up to the next control token, is encoded
    with them, since the tokenizer may join them; the model writes the former as one text.
    """
    assembly = Assembly(codec, begins=begins)
    found: dict[int, int] = {}
    at, moved = 0, ""
    for k, literal in enumerate(text.literals):
        within = slice(bisect_right(places, at + len(moved)), bisect_right(places, at + len(literal)))
        ends = [place - at for place in places[within]]
        for start, end in zip([len(moved), *ends], [*ends, len(literal)], strict=True):
            assembly.template(literal[start:end])
            found.setdefault(at + end, len(assembly.ids))
        if k == len(text.slots):
            break
        following, role = text.literals[k + 1], roles[text.slots[k].message]
        control = codec.pattern.search(following)
        moved = following[: control.start()] if control and role in (Role.ASSISTANT, Role.TOOL) else ""
        assembly.content(text.contents[k] + moved)
        at += len(literal) + len(marks[k])
    return assembly.finish(), found
