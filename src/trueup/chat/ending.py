"""How a template goes on after a generation prompt: found by rendering one question and its answer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from trueup.chat.codec import Codec
from trueup.chat.render import CLOSE, OPEN, Layout, Skeleton, Slot, Turn
from trueup.chat.tooled import Teller
from trueup.engine.groups import Message, Role, ToolCall
from trueup.errors import TrueupError

ASK: tuple[Turn, ...] = (("user", "one"),)
_BETWEEN = f"\n{CLOSE}\n\n"
"What ends a thought that a prompt opened, where the template shows no answer with its thought (DeepSeek-R1)."


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a template goes on after a generation prompt: lead, content, tail, stop token, rest."""

    header: str
    "The end of the generation prompt, from the close of a user's turn on, without spaces at its end."
    lead: str
    "Template text between the prompt and the content: part of the completion, the model writes it."
    tail: str
    "White space between the content and the stop token; part of the completion too."
    stop: str
    rest: str
    "Template text after the stop token: no part of a completion."
    slot: Slot
    "Which white space the template takes off the content."
    thought: tuple[str, Slot, str] | None = None
    "With an open thought block: text before the thought, its trims, text between thought and answer."
    closed: bool = True
    "Whether the template ends the last turn itself; otherwise what opens the next one ends it (GLM-4.5's)."
    dropped: str = ""
    "The end of the prompt that a finished turn does not have: it opens a thought, to be shown or not."
    written: str = ""
    "Where a part of the prompt is `dropped`, what a finished turn without thought has in its place."
    call: str = ""
    "What ends a turn that calls a tool, where the template itself does not: the opening of a tool's turn."
    keyed: bool = False
    "Whether the template writes a thought in its tags where it has a key of its own (Qwen3.8's)."
    taken: Literal["", "left out", "written"] = ""
    "What becomes of a thought inside a finished turn's content, where only the prompt knows of thoughts."

    @property
    def refuses(self) -> bool:
        """Whether an answer with a thought cannot follow: the prompt has closed one."""
        return CLOSE in self.header

    @property
    def end(self) -> str:
        """What the template itself writes after the content of a conversation's last turn."""
        return self.tail + self.stop + self.rest if self.closed else ""


def find_ending(teller: Teller, thinking: bool) -> Ending:
    """How a template goes on after its generation prompt, from renderings of one question.

    E551 where a finished answer stands in another place than the prompt asks for, E552 without a stop token.
    """
    layout, codec = teller.layout, teller.codec
    prompt = layout.skeleton(ASK, generation=True).literals[1]
    whole = layout.skeleton([*ASK, ("assistant", "two")], generation=False)
    stop = _stop(layout, codec, whole)
    closed = stop is not None
    tail, stop, rest = stop or _next_turn(layout, codec, whole)
    literal = whole.literals[1]
    held = prompt.rstrip(" ")
    found = Ending(header=held, lead="", tail=tail, stop=stop, rest=rest, slot=whole.slots[1], closed=closed)
    if not literal.startswith(prompt):
        return _thoughtful(teller, found, literal, thinking)
    shown = _shown(teller)
    inner, keyed = shown and _inner(shown, prompt), shown is not None and not layout.thinks and _tagged(shown)
    if layout.thinks and thinking and inner is None:
        raise _unsupported(layout, "leaves out the thought block that it asks for")
    found = replace(found, lead=literal[len(held) :], keyed=keyed)
    return replace(found, thought=inner) if thinking and (layout.thinks or keyed) else found


def _thoughtful(teller: Teller, found: Ending, literal: str, thinking: bool) -> Ending:
    """The ending of a template whose prompt opens a thought that a finished answer does not have there.

    Completions follow the prompt as generation does: what has no thought closes an empty one.
    """
    layout, (head, opens, blank) = teller.layout, found.header.rpartition(OPEN)
    if not opens or blank.strip() or not literal.startswith(head):
        raise _elsewhere(layout)
    found, shown = replace(found, dropped=opens + blank, written=literal[len(head) :]), _shown(teller)
    if shown is None:
        talk = [*ASK, ("assistant", f"{OPEN}\na\n{CLOSE}\n\nb"), *ASK]
        keeps = CLOSE in layout.template.render(talk, generation=False)
        thought = ("", Slot(2, "thought", None, None), _BETWEEN)
        found = replace(found, taken="written" if keeps else "left out")
    else:
        thought = _inner(shown, found.header)
        if thought is None:
            raise _elsewhere(layout)
        found = replace(found, keyed=not layout.thinks and _tagged(shown))
    return replace(found, lead=thought[2], thought=thought if thinking else None)


def _shown(teller: Teller) -> Skeleton | None:
    """One question, and its answer with a thought; None where the template does not show the thought."""
    said = Message(Role.ASSISTANT, "two", thinking="three")
    try:
        return teller.tell((Message(Role.USER, "one"), said), generation=False).skeleton
    except TrueupError as error:
        if error.code not in ("E353", "E364"):
            raise
        return None


def _inner(shown: Skeleton, prompt: str) -> tuple[str, Slot, str] | None:
    """What an answer with a thought has before it, its trims, and what follows; None elsewhere."""
    parts = [slot.part for slot in shown.slots]
    if parts != ["content", "thought", "content"] or not shown.literals[1].startswith(prompt):
        return None
    return shown.literals[1][len(prompt.rstrip(" ")) :], shown.slots[1], shown.literals[2]


def _tagged(shown: Skeleton) -> bool:
    """Whether the thought stands between the tags."""
    before, after = shown.literals[1:3]
    return before.rstrip().endswith(OPEN) and after.lstrip().startswith(CLOSE)


def _stop(layout: Layout, codec: Codec, whole: Skeleton) -> tuple[str, str, str] | None:
    """The white space before the stop token, the token, and what follows; None where nothing is written."""
    closer = whole.literals[-1]
    found = codec.pattern.search(closer)
    if found is not None and not closer[: found.start()].strip():
        return closer[: found.start()], found.group(), closer[found.end() :]
    if closer.strip():
        raise _no_stop(layout, closer)
    return None


def _next_turn(layout: Layout, codec: Codec, whole: Skeleton) -> tuple[str, str, str]:
    """The same where a turn ends with the token that opens the user's next one. E552 where none does."""
    later = layout.skeleton([*ASK, ("assistant", "two"), *ASK], generation=False).literals[2]
    opens = opened_by(codec, whole.literals[2], later)
    if opens is None:
        raise _no_stop(layout, whole.literals[2])
    tail, token = opens
    return whole.literals[2] + tail, token, ""


def call_stop(teller: Teller, *, closed: bool) -> tuple[str, str] | None:
    """What ends an answer that calls a tool, white space and token; None where the template shows no calls.

    `closed` says whether the template ends its last turn itself; otherwise a tool's turn ends the call's.
    """
    call, more = ToolCall("weather", '{"place": "Oslo"}'), ToolCall("time", '{"place": "Rome"}')
    asked, talk = Message(Role.USER, "one"), Message(Role.ASSISTANT, "", tool_calls=(call,))

    end = _end(teller, asked, talk)
    if not closed:
        later = _end(teller, asked, talk, Message(Role.TOOL, "two", name="weather"), slot=-2)
        return opened_by(teller.codec, end, later) if end and later else None
    stops = teller.codec.pattern.findall(end)
    both = teller.codec.pattern.findall(_end(teller, asked, replace(talk, tool_calls=(call, more))))
    # What stands between two calls as well would end an answer after the first (DeepSeek-R1's distillations).
    if not stops or both.count(stops[-1]) > stops.count(stops[-1]):
        return None
    return "", stops[-1]


def _end(teller: Teller, *messages: Message, slot: int = -1) -> str:
    """What the template writes at the end of a conversation; nothing where it cannot show it."""
    try:
        return teller.tell(messages, generation=False).skeleton.literals[slot]
    except TrueupError:
        return ""


def opened_by(codec: Codec, before: str, after: str) -> tuple[str, str] | None:
    """The white space and the control token with which `after` goes on behind `before`; None of another."""
    found = codec.pattern.search(after, len(before))
    if found is None or not after.startswith(before) or after[len(before) : found.start()].strip():
        return None
    return after[len(before) : found.start()], found.group()


def _no_stop(layout: Layout, closer: str) -> TrueupError:
    reason = f"the template ends an assistant turn with {closer!r}, which is no token of the tokenizer"
    remedy = "add the token, or name another template (hh works with every tokenizer)"
    return TrueupError("E552", reason, where=f"template {layout.template.name}", remedy=remedy)


def _elsewhere(layout: Layout) -> TrueupError:
    return _unsupported(layout, "writes a finished answer in another place than its own prompt asks for")


def _unsupported(layout: Layout, what: str) -> TrueupError:
    where = f"template {layout.template.name}"
    return TrueupError("E551", f"the template {what}", where=where, remedy="name another template")
