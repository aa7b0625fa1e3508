"""What stands between a prompt and the answer in a completion, and whether the template says so too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile

from trueup.chat.assembly import Assembly
from trueup.chat.ending import Ending
from trueup.chat.render import CLOSE, OPEN, Layout, think_parts
from trueup.chat.thoughts import spoken_text, turns_of
from trueup.engine.groups import Message, Role
from trueup.errors import TrueupError

_THINK = "`--model.thinking on` trains completions that begin with one whole block; or take the blocks out"


def begin_answer(layout: Layout, ending: Ending, assembly: Assembly, text: str) -> str:
    """Lays out what precedes the answer in a completion, and returns the answer. E354 for a thought amiss."""
    opens, closes = text.count(OPEN), text.count(CLOSE)
    none = closes == 0 and (ending.thought is None or opens == 0)
    if none or not (ending.keyed or knows_thoughts(layout, ending)):
        assembly.template(ending.lead)
        return text
    opened = ending.thought is not None and (OPEN not in ending.thought[0] or text.lstrip().startswith(OPEN))
    if ending.thought is None or opens > 1 or closes > 1 or not opened:
        raise unexpected("the completion has a thought block, or a part of one, where this chat expects none")
    before, slot, between = ending.thought
    thought, answer = think_parts(text) if closes else (text.split(OPEN, 1)[1].lstrip("\n"), "")
    if not thought.strip():
        assembly.template(ending.lead)
        return answer
    assembly.template(before)
    assembly.content(slot.trim(thought))
    if closes:
        assembly.template(between)
    return answer


def check_whole(layout: Layout, ending: Ending, messages: Sequence[Message], header: str, text: str) -> None:
    """E353 unless the template's rendering of the whole conversation ends as the encoded one does.

    What comes before the last header may differ: some templates (Mistral's) move the system's words about.
    """
    answer, lead = text, ending.lead
    if knows_thoughts(layout, ending) and CLOSE in answer and ending.thought is not None:
        thought, answer = think_parts(answer)
        before, slot, between = ending.thought
        lead = before + slot.trim(thought) + between if thought.strip() else lead
    elif ending.thought is not None and OPEN in answer:
        return  # Cut off inside its thought: the template has no form for that.
    # What both have in common: it is longer where the last content is blank, or a tool's.
    backwards = zip(reversed(header), reversed(ending.header), strict=False)
    count = len(list(takewhile(lambda pair: pair[0] == pair[1], backwards)))
    shared = header[len(header) - count :]
    if ending.dropped and (ending.taken or lead == ending.lead):
        shared, lead = shared.removesuffix(ending.dropped), ending.written
    expected = shared + lead + ending.slot.trim(answer) + ending.end
    said = answer if ending.taken else text
    turns = [*turns_of(messages), (str(Role.ASSISTANT), said)]
    if not layout.text(turns, generation=False).endswith(expected):
        reason = "the template does not render the completion as what follows its own prompt"
        remedy = "drop the row or name another template"
        raise TrueupError("E353", reason, where=f"template {layout.template.name}", remedy=remedy)


def knows_thoughts(layout: Layout, ending: Ending) -> bool:
    """Whether a thought inside a content is told apart from the answer."""
    return layout.thinks or bool(ending.taken)


def unexpected(reason: str) -> TrueupError:
    """The error for a thought where the chat expects none (E354)."""
    return TrueupError("E354", reason, remedy=_THINK)


def told_apart(ending: Ending, messages: Sequence[Message]) -> list[Message]:
    """The messages as the template is told them, where it does not look for thoughts inside contents itself.

    A template with a key for thoughts is told of them there; one that takes them out of finished turns is
    told the answers. E353 for an earlier thought that the template, whose prompts open one, writes as text.
    """
    if not (ending.keyed or ending.taken):
        return list(messages)
    return [_told(ending, message) if message.role is Role.ASSISTANT else message for message in messages]


def _told(ending: Ending, message: Message) -> Message:
    thought, said = apart(message)
    if ending.keyed:
        return replace(said, thinking=thought)
    if ending.taken == "written" and thought:
        reason = "the template writes an earlier thought out as text, while its prompts open one"
        raise TrueupError("E353", reason, remedy="take the thought out of the earlier turn, or drop the row")
    return said


def apart(message: Message) -> tuple[str, Message]:
    """An assistant's thought, wherever it stands, and the message without it. E354 for a thought in two."""
    text = spoken_text(message)
    if CLOSE not in text:
        return "", message
    if text.count(OPEN) > 1 or text.count(CLOSE) > 1:
        raise unexpected("the message has more than one thought block")
    thought, answer = think_parts(text)
    return thought, replace(message, thinking="", content=answer)
