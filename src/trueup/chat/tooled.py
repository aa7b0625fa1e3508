"""Conversations that say more than role and content: tools, calls of them, names, and thoughts told apart.

Contents and thoughts stay places in the rendered text, as in `render`. What tools, calls and names say is
written by people too, and templates weave it into their own text; so each such row is rendered twice, with
its strings and with harmless words in their place. Control tokens and role markers must be the same in both,
piece by piece; otherwise a string forged one, and the row is refused (E362). The harmless words also show
whether the template tells of the tools and calls at all (E360, E361).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from trueup.chat.bounded import together
from trueup.chat.codec import Codec
from trueup.chat.markers import Guard
from trueup.chat.render import CLOSE, OPEN, Layout, Part, Skeleton, Slot, think_parts
from trueup.chat.templates import NAMED
from trueup.chat.thoughts import spoken_text
from trueup.engine.groups import Message, Role, ToolCall
from trueup.errors import TrueupError

_THOUGHTS = ("reasoning_content", "thinking", "reasoning")
"What templates call an assistant's thought."
_SCHEMA = frozenset(
    ["function", "object", "string", "number", "integer", "boolean", "array", "null", "type", "properties",
     "required", "description", "parameters", "name", "arguments", "items", "enum", "default", "title",
     "format", "strict", "anyOf", "additionalProperties"]
)  # fmt: skip
"Words of JSON Schema that templates look at: they stay, so that both renderings take the same branches."
_ALPHABET = "qxzjkwv"
Leaf = Callable[[str], str]
Texts = dict[Part, str]


@dataclass(frozen=True, slots=True)
class Form:
    """How a row is told to the template: what one takes for granted, another cannot read."""

    text_arguments: bool
    "Arguments as JSON text, as in DeepSeek's templates, rather than as an object."
    null_content: bool
    "No content beside calls as null rather than as an empty text."


_FORMS = tuple(Form(text, null) for text in (False, True) for null in (False, True))


@dataclass(eq=False)
class Harmless:
    """A mapping of strings to words that mean nothing: one a string, as long, never shorter than eight."""

    known: dict[str, str] = field(default_factory=dict)

    def __call__(self, text: str) -> str:
        """The word for a text; schema words and blanks are their own."""
        if text in _SCHEMA or not text.strip():
            return text
        if text not in self.known:
            number, word = len(self.known) + 1, ""
            while number:
                number, digit = divmod(number, len(_ALPHABET))
                word = _ALPHABET[digit] + word
            self.known[text] = word.rjust(max(len(text), 8), _ALPHABET[0])
        return self.known[text]


def says_more(message: Message, *, thinks: bool) -> bool:
    """Whether a message needs this module; `thinks`: its thought can stand inside its content."""
    aside = message.tools or message.tool_calls or message.name or message.tool_call_id
    return bool(aside or (message.thinking and not thinks))


@dataclass(frozen=True, kw_only=True, eq=False)
class Told:
    """A conversation rendered for one template: its text in pieces, and what each place holds."""

    skeleton: Skeleton
    contents: list[str]
    form: Form
    marks: Texts
    "The placeholder of each part, the same in renderings of the conversation's beginnings."


@dataclass(frozen=True, kw_only=True, eq=False)
class Teller:
    """A layout and a codec, applied to such conversations."""

    layout: Layout
    codec: Codec
    guard: Guard

    @together()
    def tell(self, messages: Sequence[Message], *, generation: bool) -> Told:
        """The conversation's skeleton and contents, in the first form of it that the template can show.

        With `generation` False the last message is an answer, whose every part must be shown; what a template
        leaves out of earlier turns it leaves out when it generates too. E351 to E354, E360 to E364, E551.
        """
        messages = [self._apart(message) for message in messages]
        self._refuse_tokens(messages)
        calling = any(message.tool_calls for message in messages)
        first: TrueupError | None = None
        for form in _FORMS if calling else _FORMS[:1]:
            try:
                return self._tell(messages, form, generation)
            except TrueupError as error:
                if error.code not in ("E351", "E360", "E361", "E550", "E551"):
                    raise
                first = first or error
        assert first is not None
        if first.code == "E550":  # The template is sound on other rows, or there would be no chat.
            first = TrueupError("E351", first.reason, where=first.where, remedy="change the row, or drop it")
        raise first

    def text(self, messages: Sequence[Message], told: Told, *, generation: bool, open: bool = False) -> str:
        """A told conversation's beginning as text, with the same placeholders; `open` asks for thoughts."""
        shown = [self._apart(message) for message in messages]
        template = self.layout.template
        if open:
            template = replace(template, variables={**template.variables, "enable_thinking": True})
        return template.run(
            _told(shown, told.form, _same, told.marks, self.layout.thinks),
            tools=_tools(shown, _same),
            generation=generation,
        )

    def string(self, messages: Sequence[Message], *, generation: bool) -> str:
        """The conversation as the template writes it, contents and all, as one string."""
        shown, form = [self._apart(m) for m in messages], self.tell(messages, generation=generation).form
        return self._run(shown, form, _same, _parts(shown), generation)

    def _tell(self, messages: list[Message], form: Form, generation: bool) -> Told:
        said = _parts(messages)
        beside = self.layout.like_placeholders(leaf for m in messages for leaf in _leaves(m))
        marks = {
            key: self.layout.placeholder((), *key, beside) if text.strip() else text
            for key, text in said.items()
        }
        placed = {key: mark for key, mark in marks.items() if said[key].strip()}
        last = len(messages) - 1

        def needed(key: Part) -> bool:
            if generation:
                return key[1] == "content"
            return key[0] == last

        harmless = Harmless()
        bare = self._run(messages, form, harmless, marks, generation)
        self._check_shown(messages, bare, harmless)
        if not generation and placed.get((last, "thought"), "") not in bare:
            reason = f"the template does not show the thought of message {last + 1}"
            where = f"template {self.layout.template.name}"
            raise TrueupError("E364", reason, where=where, remedy=self._other("qwen3", "thoughts"))
        literals, order = self.layout.cut(
            self._run(messages, form, _same, marks, generation), placed, needed=needed
        )
        plain, same = self.layout.cut(bare, placed, needed=needed)
        if order != same or not all(map(self._alike, literals, plain)):
            raise _forged(self.layout, "a tool, a call or a name spells a control token or a role marker")
        slots = self._slots(messages, form, marks, placed, generation)
        skeleton = Skeleton(tuple(literals), tuple(slots[key] for key in order))
        contents = [slot.trim(said[slot.message, slot.part]) for slot in skeleton.slots]
        shown = self._run(messages, form, _same, marks | {k: said[k] for k in order}, generation)
        if skeleton.splice(contents) != shown:
            reason = "the template's output depends on what this conversation says"
            where = f"template {self.layout.template.name}"
            raise TrueupError("E353", reason, where=where, remedy="drop the row or name another template")
        return Told(skeleton=skeleton, contents=contents, form=form, marks=marks)

    def _run(self, messages: list[Message], form: Form, leaf: Leaf, texts: Texts, generation: bool) -> str:
        told = _told(messages, form, leaf, texts, self.layout.thinks)
        return self.layout.template.run(told, tools=_tools(messages, leaf), generation=generation)

    def _apart(self, message: Message) -> Message:
        """The message with the thought that stands in its content told apart, where the template does so."""
        thinks = self.layout.thinks and message.role is Role.ASSISTANT
        if not thinks or CLOSE not in message.content or message.thinking:
            return message
        thought, content = think_parts(message.content)
        return replace(message, thinking=thought, content=content)

    def _alike(self, ours: str, harmless: str) -> bool:
        found = self.codec.pattern.findall
        return found(ours) == found(harmless) and self.guard.count(ours) == self.guard.count(harmless)

    def _refuse_tokens(self, messages: Sequence[Message]) -> None:
        for index, message in enumerate(messages):
            spoken_text(message)
            for leaf in _leaves(message):
                what = f"what message {index + 1} calls, or is given to call, spells"
                if found := self.codec.pattern.search(leaf):
                    raise _forged(self.layout, f"{what} {found.group()}, a control token")
                if marker := self.guard.spelled(leaf):
                    raise _forged(self.layout, f"{what} {marker!r}, a role marker")

    def _check_shown(self, messages: Sequence[Message], text: str, word: Harmless) -> None:
        """E360 or E361 where a tool's name, or a part of a call, is not in the rendering with `word`s."""
        where = f"template {self.layout.template.name}"
        for tool in _tools(messages, _same) or ():
            name = str((tool.get("function") or tool).get("name", ""))
            if word(name) not in text:
                reason = (
                    f"the template does not show the tools of this conversation: {name} is not in its output"
                )
                remedy = self._other("chatml-tools", "tools")
                if "function" not in tool:
                    remedy = f'write them as {{"type": "function", "function": {{...}}}}, or {remedy}'
                raise TrueupError("E360", reason, where=where, remedy=remedy)
        at = 0
        for index, message in enumerate(messages):
            for call in message.tool_calls:
                for leaf in map(word, (call.name, *_strings(_arguments(call)))):
                    # They stand in their order as a rule: the text is not searched from its start for each.
                    found = text.find(leaf, at)
                    at = text.find(leaf) if found < 0 else found
                    if at >= 0:
                        continue
                    reason = f"the template does not show the call of {call.name} in message {index + 1}"
                    remedy = self._other("chatml-tools", "tools")
                    raise TrueupError("E361", reason, where=where, remedy=remedy)

    def _other(self, name: str, shows: str) -> str:
        """What to do where the template shows no tools or thoughts: one that does, if its tokens exist."""
        if name == self.layout.template.name or any(t not in self.codec.control for t in NAMED[name].needs):
            return f"use a model whose template shows {shows}, or drop the row"
        more = " --model.thinking on" if shows == "thoughts" else ""
        return f"name a template with {shows} (`--model.template {name}{more}`), or drop the row"

    def _slots(
        self, messages: list[Message], form: Form, marks: Texts, placed: Texts, generation: bool
    ) -> dict[Part, Slot]:
        """The slot of each part, with what the template takes off its ends; known by the row's shape."""
        shape = tuple((str(m.role), len(m.tool_calls), bool(m.name), bool(m.tools)) for m in messages)
        texts = tuple((part, part in placed or text) for part, text in marks.items())
        key = ("tooled", shape, texts, form, generation)
        if key not in self.layout.known:
            self.layout.keep(key, self._make_slots(messages, form, marks, placed, generation), len(messages))
        return self.layout.known[key]

    def _make_slots(
        self, messages: list[Message], form: Form, marks: Texts, placed: Texts, generation: bool
    ) -> dict[Part, Slot]:
        def cut(texts: Texts) -> tuple[list[str], list[Part]]:
            text = self._run(messages, form, Harmless(), texts, generation)
            return self.layout.cut(text, placed, needed=lambda key: False)

        bare, order = cut(marks)
        slots = self.layout.slots(
            order,
            bare,
            lambda parts, edge: cut({**marks, **{part: edge + marks[part] + edge for part in parts}})[0],
            lambda part: messages[part[0]].role is Role.TOOL,
        )
        return dict(zip(order, slots, strict=True))


def _same(text: str) -> str:
    return text


def _forged(layout: Layout, reason: str) -> TrueupError:
    remedy = "take it out, or drop the row: inside the template's own text it could change the roles"
    return TrueupError("E362", reason, where=f"template {layout.template.name}", remedy=remedy)


def _parts(messages: Sequence[Message]) -> Texts:
    """What people or models wrote for reading: every content, and every thought there is."""
    said: Texts = {}
    for index, message in enumerate(messages):
        if message.thinking.strip():
            said[index, "thought"] = message.thinking
        said[index, "content"] = message.content
    return said


def _told(
    messages: Sequence[Message], form: Form, leaf: Leaf, texts: Texts, inline: bool
) -> list[dict[str, Any]]:
    """The messages as a template is given them; `inline` thoughts stand inside the content."""
    return [_mapping(index, message, form, leaf, texts, inline) for index, message in enumerate(messages)]


def _mapping(
    index: int, message: Message, form: Form, leaf: Leaf, texts: Texts, inline: bool
) -> dict[str, Any]:
    content, thought = texts[index, "content"], texts.get((index, "thought"), "")
    said: dict[str, Any] = {"role": str(message.role), "content": content}
    if thought and inline:
        said["content"] = f"{OPEN}\n{thought}\n{CLOSE}\n\n{content}"
    elif thought:
        said |= dict.fromkeys(_THOUGHTS, thought)
    if message.tool_calls:
        said["tool_calls"] = [_call(call, form, leaf) for call in message.tool_calls]
        if form.null_content and not said["content"].strip():
            said["content"] = None
    for key, text in (("name", message.name), ("tool_call_id", message.tool_call_id)):
        if text:
            said[key] = leaf(text)
    return said


def _call(call: ToolCall, form: Form, leaf: Leaf) -> dict[str, Any]:
    arguments = _mapped(_arguments(call), leaf)
    if form.text_arguments:
        arguments = call.arguments if leaf is _same else json.dumps(arguments, ensure_ascii=False)
    told = {"type": "function", "function": {"name": leaf(call.name), "arguments": arguments}}
    return {"id": leaf(call.id), **told} if call.id else told


def _arguments(call: ToolCall) -> Any:
    try:
        return json.loads(call.arguments)
    except ValueError:
        reason = f"the arguments of a call of {call.name} are no JSON"
        raise TrueupError("E361", reason, remedy="mend the row") from None


def _tools(messages: Sequence[Message], leaf: Leaf) -> list[Any] | None:
    """The tools that the conversation's first message with any declares."""
    given = next((message.tools for message in messages if message.tools), "")
    return _mapped(json.loads(given), leaf) if given else None


def _mapped(value: Any, leaf: Leaf) -> Any:
    """JSON values with every string in them, keys too, as `leaf` gives it."""
    if isinstance(value, dict):
        return {leaf(key): _mapped(item, leaf) for key, item in value.items()}
    if isinstance(value, list):
        return [_mapped(item, leaf) for item in value]
    return leaf(value) if isinstance(value, str) else value


def _strings(value: Any) -> Iterator[str]:
    found: list[str] = []
    _mapped(value, lambda text: found.append(text) or text)
    yield from found


def _leaves(message: Message) -> Iterable[str]:
    """Every string of a message that a template weaves into its own text."""
    yield from (message.name, message.tool_call_id)
    if message.tools:
        yield from _strings(json.loads(message.tools))
    for call in message.tool_calls:
        yield from (call.name, call.id, *_strings(_arguments(call)))
