"""What a template does, found out by rendering it: endings, stop token, BOS, trims, and what it looks at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import date
from typing import Any

from trueup.chat.bounded import together
from trueup.chat.carried import dressed, text_end, told_to_think
from trueup.chat.codec import Codec
from trueup.chat.ending import ASK, call_stop, find_ending
from trueup.chat.markers import Guard
from trueup.chat.render import CLOSE, OPEN, Layout, Skeleton, Template, Turn
from trueup.chat.templates import BOS, FOLD, LATER, NAMED, NO_SYSTEM
from trueup.chat.tooled import Teller
from trueup.errors import TrueupError, counted

_THOUGHTS = (f"a{CLOSE}b", f"{OPEN}\na\n{CLOSE}\n\nb")
_FOLDED = (
    "this template has no system turns: their words stand before the first question (model.system: fold)"
)


@together()
def probe(
    tokenizer: Any, name: str | None, *, thinking: bool | None, fold: bool, today: date
) -> dict[str, Any]:
    """What a tokenizer and a template do: the fields of a `Chat`, for the arguments of `Chat.of`.

    E550 template fails, E551 its shape is not supported, E552 no stop token, E554 tokens missing.
    """
    codec, bos = Codec.of(tokenizer), tokenizer.bos_token_id
    text_bos, end = _text_bos(codec, bos), text_end(tokenizer)
    source, label = _source(tokenizer, name, codec, begins=bool(text_bos))
    if thinking is None:
        thinking = bool(source and told_to_think(source))
    found = {"codec": codec, "bos": bos, "text_bos": text_bos, "text_stop": end}
    ends = tuple(number for number in (end, tokenizer.eos_token_id) if number is not None)
    if source is None:
        digest = Template(name="plain", source="", variables={}, today=today).digest
        absent = {"layout": None, "ending": None, "guard": Guard(), "tokenizer": dressed(tokenizer, None)}
        return {**found, **absent, "stop_ids": tuple(dict.fromkeys(ends)), "template_digest": digest}
    named = {key: text for key, text in tokenizer.special_tokens_map.items() if isinstance(text, str)}
    variables = {**named, "enable_thinking": thinking}
    template = _told_in_parts(Template(name=label, source=source, variables=variables, today=today))
    layout = _layout(template)
    if refusing := _refusing(layout):
        template = replace(template, source=refusing + source)
        layout = _layout(template)
    alone = _with_system(layout) is None
    if alone and fold:
        template = replace(template, source=FOLD + template.source)
        layout = _layout(template)
    guard = _guard(layout, codec)
    teller = Teller(layout=layout, codec=codec, guard=guard)
    ending = find_ending(teller, thinking)
    _check_bos(layout, tokenizer.bos_token)
    called = call_stop(teller, closed=ending.closed)
    if called is not None:
        ending = ending if ending.closed else replace(ending, call="".join(called))
        ends = (*ends, codec.control[called[1]])
    return {
        **found,
        "tokenizer": dressed(tokenizer, template.source, thinking=thinking),
        "layout": layout,
        "no_system": alone and not fold,
        "notes": (_FOLDED,) if alone and fold else (),
        "ending": ending,
        "stop_ids": tuple(dict.fromkeys((codec.control[ending.stop], *ends))),
        "guard": guard,
        "template_digest": template.digest,
    }


def _source(tokenizer: Any, name: str | None, codec: Codec, *, begins: bool) -> tuple[str | None, str]:
    """The Jinja source, None for plain text, and what to call it; `begins`: a named one writes the BOS."""
    if name == "plain":
        return None, name
    if name in NAMED:
        missing = [token for token in NAMED[name].needs if token not in codec.control]
        if missing:
            reason = f"the tokenizer has no token {', '.join(missing)}, which template {name} is made of"
            remedy = "add the tokens and resize the model's embeddings, or use template hh"
            raise TrueupError("E554", reason, remedy=remedy)
        return (BOS if begins else "") + NAMED[name].source, name
    if name is not None and "{" in name:
        return name, "given"
    if name is not None:
        remedy = f"one of {', '.join([*NAMED, 'plain'])}, or Jinja source"
        raise TrueupError("E554", f"no template is named {name!r}", remedy=remedy)
    own = tokenizer.chat_template
    if isinstance(own, Mapping):
        if "default" not in own:
            reason = f"the tokenizer has the templates {', '.join(own)} and none is the default"
            raise TrueupError("E554", reason, remedy="give the source of the one to use")
        own = own["default"]
    return own, "of the tokenizer"


def _text_bos(codec: Codec, bos: int | None) -> tuple[int, ...]:
    """What the tokenizer puts before a plain text, if that is its BOS token."""
    ids = codec.whole.encode("", add_special_tokens=True).ids
    return (bos,) if bos is not None and ids[:1] == [bos] else ()


def _told_in_parts(template: Template) -> Template:
    """The template, given contents as lists of parts where it shows nothing of a content that is a text."""
    said = "qxzjkwv"
    parts = replace(template, parts=True)
    text, listed = (_rendered(one, said) for one in (template, parts))
    return parts if said not in text and said in listed else template


def _rendered(template: Template, said: str) -> str:
    try:
        return template.render([("user", said)], generation=True)
    except TrueupError as error:
        if error.code in ("E365", "E366"):
            raise
        return ""


def _layout(template: Template) -> Layout:
    """The layout, after probing whether the template's output depends on what the contents say."""
    plain, knowing = Layout(template), Layout(template, thinks=True)
    for text in ("two words", " two\n", "w" * 10_000):
        _fills(plain, _talks(text))
    thoughts = (talk for text in _THOUGHTS for talk in _talks(text))
    # Qwen3's kind takes assistant turns apart, the last one otherwise than earlier ones.
    ends = ([*ASK, ("assistant", text), *more] for text in _THOUGHTS for more in ((), ASK))
    if not _fills(plain, thoughts, "E353") and _fills(knowing, ends, "E353", "E551"):
        return knowing
    # A template that looks at thoughts in a way that is not known works for conversations without them: each
    # conversation is checked, and one with a thought is refused (E353).
    return plain


def _talks(text: str) -> tuple[list[Turn], ...]:
    """Conversations that say a text, by the user, by the assistant and by both."""
    said = ("assistant", text)
    return ([("user", text)], [*ASK, said], [("user", text), said, ("user", text)])


def _fills(layout: Layout, talks: Iterable[list[Turn]], *refusals: str) -> bool:
    """Whether the template is as its layout says on all of some conversations; raises other refusals."""
    try:
        for turns in talks:
            layout.fill(turns, generation=turns[-1][0] == "user")
    except TrueupError as error:
        if error.code not in refusals:
            raise
        return False
    return True


def _check_bos(layout: Layout, bos: str | None) -> None:
    """E551 unless the template writes the BOS token once at the start, or never."""
    text = layout.template.render(ASK, generation=True)
    count = text.count(bos) if bos else 0
    # A model may use one token for BOS and EOS: then only what stands at the start counts.
    if bos and count and (not text.startswith(bos) or text.startswith(bos + bos)):
        reason = f"the template writes the BOS token {bos} {counted(count, 'time')}, or not at the start"
        where = f"template {layout.template.name}"
        raise TrueupError("E551", reason, where=where, remedy="name another template")


def _guard(layout: Layout, codec: Codec) -> Guard:
    """The role markers that no token protects."""
    turns = [("user", "one"), ("assistant", "two"), ("user", "three"), ("assistant", "four")]
    closed = layout.skeleton(turns[:2], generation=False)
    others = filter(None, (_with_system(layout), _with(layout, [*turns[:2], ("tool", "zero")])))
    return Guard.of(layout.skeleton(turns[:3], generation=True), (closed, *others), codec.pattern)


def _refusing(layout: Layout) -> str:
    """What must stand before a template that would put a system's words into the assistant's mouth."""
    first, later = ((), (*ASK, ("assistant", "two")))
    said = (
        [_with(layout, [*before, (role, "zero"), *ASK]) for role in ("system", "assistant")]
        for before in (first, later)
    )
    for refusing, (system, assistant) in zip((NO_SYSTEM, LATER), said, strict=True):
        if system is not None and system == assistant:
            return refusing
    return ""


def _with_system(layout: Layout) -> Skeleton | None:
    """The skeleton of a conversation with a system turn; None where the template refuses it."""
    return _with(layout, [("system", "zero"), *ASK])


def _with(layout: Layout, turns: list[Turn]) -> Skeleton | None:
    try:
        return layout.skeleton(turns, generation=True)
    except TrueupError as error:
        if error.code not in ("E351", "E551"):
            raise
        return None
