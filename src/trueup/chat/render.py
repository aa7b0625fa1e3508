"""A chat template run in the sandbox, and its output taken apart into template text and places for content.

The template is rendered with placeholders in place of the contents; the rendered text is then cut at the
placeholders. What is left is text that the template owns. The contents never meet the placeholders: they are
put in afterwards, as token ids. So no content can imitate a placeholder, and one rendering serves every
conversation of the same shape (roles, and which contents are blank).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal

from trueup.errors import TrueupError

OPEN, CLOSE = "<think>", "</think>"
_TAGS, _TAGS_IN_SHORT = "<think>\n{}\n</think>\n\n{}", "{}</think>{}"
"Two ways to write a thought and an answer that mean the same to a template that knows thoughts."
EDGES = ("\n \t \n", " \n\t\n ")
"White space around a content, to see what a template strips: what begins with one kind hides the other."
_STRIPS: tuple[str | None, ...] = ("", None, "\n", " ", " \n")
"What templates take off the ends of a content, as the argument of `str.strip`; '' for nothing."

Turn = tuple[str, str]
"A role and a content, as the template sees them."
Shape = tuple[tuple[str, ...], ...]
"Of each turn: role, kind (content or thought), and of each of its parts 'x' or the white space that it is."
Part = tuple[int, str]
"A message's number and the part of it: its content, or the thought in it."


@dataclass(frozen=True, eq=False, kw_only=True)
class Template:
    """A Jinja chat template with the values it is given besides the messages."""

    name: str
    source: str
    variables: Mapping[str, Any]
    "`bos_token`, `eos_token` ... and `enable_thinking`."
    today: date
    "What `strftime_now` tells, so that a prompt is the same tomorrow."
    parts: bool = False
    "Whether contents are told as lists of parts, one text each, as templates with images take them."

    @property
    def digest(self) -> str:
        """The SHA-256 of everything that shapes the text: source, variables and date."""
        state = [self.source, dict(self.variables), self.today.isoformat()]
        return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()

    def render(self, turns: Sequence[Turn], *, generation: bool) -> str:
        """The text of a conversation, with the header of the next assistant turn if `generation`.

        Raises what `run` raises.
        """
        said = [{"role": role, "content": content} for role, content in turns]
        return self.run(said, generation=generation)

    def run(self, messages: Sequence[Mapping[str, Any]], *, tools: Any = None, generation: bool) -> str:
        """The text of messages as mappings, which may say more than role and content.

        E351 with the template's own words when it refuses the conversation; E550 when it is no valid
        template, fails, or tries to leave the sandbox.
        """
        import jinja2.exceptions as errors
        from transformers.utils.chat_template_utils import _compile_jinja_template

        code, remedy = "E550", "repair it or name another template"
        try:
            return _compile_jinja_template(self.source).render(
                messages=[_in_parts(message) for message in messages] if self.parts else list(messages),
                tools=tools,
                documents=None,
                add_generation_prompt=generation,
                strftime_now=self.today.strftime,
                **self.variables,
            )
        except errors.SecurityError as error:
            reason, remedy = f"the sandbox refused it: {error}", "do not trust this model's template"
        except errors.TemplateSyntaxError as error:
            reason = f"not valid Jinja: {error}"
        except errors.UndefinedError as error:
            reason = f"it failed: {error}"
        except errors.TemplateError as error:
            code, remedy = "E351", "change the conversation, or name another template"
            reason = f"the template refuses this conversation: {error}"
        except Exception as error:  # Foreign code: whatever it raises is the template's failure, not ours.
            reason = f"it failed: {type(error).__name__} {error}"
        raise TrueupError(code, reason, where=f"template {self.name}", remedy=remedy)


def _in_parts(message: Mapping[str, Any]) -> Mapping[str, Any]:
    content = message["content"]
    return message if content is None else {**message, "content": [{"type": "text", "text": content}]}


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
        return _escaped(kept) if self.escaped else kept


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


@dataclass(frozen=True, eq=False)
class Layout:
    """A template's skeletons, made once for each shape of conversation."""

    template: Template
    thinks: bool = False
    "Whether the template takes assistant contents apart at `</think>`, as Qwen3's does."
    known: dict[Any, Any] = field(default_factory=dict, repr=False)

    def skeleton(self, turns: Sequence[Turn], *, generation: bool) -> Skeleton:
        """The skeleton for conversations of this shape, in the order in which the template puts the contents.

        E551 when the template repeats a content, leaves one out, or changes it in another way than trimming.
        """
        shape = tuple((role, *self._shape(role, content)) for role, content in turns)
        key = (shape, generation)
        if key not in self.known:
            self.keep(key, self._make(shape, generation))
        return self.known[key]

    def keep(self, key: Any, value: Any) -> None:
        """None; the value is `known`. Blank contents are part of keys, so data can make many of them."""
        if len(self.known) >= 4096:
            self.known.clear()
        self.known[key] = value

    def fill(self, turns: Sequence[Turn], *, generation: bool) -> tuple[Skeleton, list[str]]:
        """The skeleton and the trimmed content of each slot, checked against the template's own rendering.

        E353 when the template renders these very contents otherwise, that is, when it looks at them.
        """
        skeleton = self.skeleton(turns, generation=generation)
        contents = []
        for slot in skeleton.slots:
            role, content = turns[slot.message]
            if self._is_thought(role, content):
                content = think_parts(content)[slot.part == "content"]
            contents.append(slot.trim(content))
        if skeleton.splice(contents) != self.template.render(turns, generation=generation):
            reason = "the template's output depends on what this conversation says"
            remedy = "drop the row or name another template"
            raise TrueupError("E353", reason, where=f"template {self.template.name}", remedy=remedy)
        return skeleton, contents

    def _is_thought(self, role: str, content: str) -> bool:
        return self.thinks and role == "assistant" and CLOSE in content

    def _shape(self, role: str, content: str) -> tuple[str, ...]:
        """What the template may see of a content: white space as it is, otherwise only that there is some."""
        if self._is_thought(role, content):
            return ("thought", *(part if not part.strip() else "x" for part in think_parts(content)))
        return ("content", "x" if content.strip() else content)

    def _make(self, shape: Shape, generation: bool) -> Skeleton:
        marks = {
            (index, name): self.placeholder(shape, index, name)
            for index, turn in enumerate(shape)
            for name, part in _parts(turn)
            if part == "x"
        }

        def render(edged: Part | None = None, edge: str = "", tags: str = _TAGS) -> str:
            return self.template.render(_filled(shape, marks, edged, edge, tags), generation=generation)

        for index, (_, kind, *_) in enumerate(shape):
            # Were the tags in the output those of the content, the output would tell the two forms apart.
            if kind == "thought" and render(tags=_TAGS_IN_SHORT) != render():
                raise self._refusal("writes out the tags in", (index, "content"))
        literals, order = self.cut(render(), marks)
        slots = []
        for k, part in enumerate(order):
            seen = [self.cut(render(part, edge), marks)[0] for edge in EDGES]
            slots.append(self.slot(k, part, literals, seen))
        return Skeleton(tuple(literals), tuple(slots))

    def placeholder(self, shape: Any, index: int, name: str, beside: str = "") -> str:
        """A word that is in neither the template nor the text `beside` it, the same in every run.

        It is made of letters, which no filter alters.
        """
        for attempt in range(100):
            seed = repr((self.template.digest, shape, index, name, attempt))
            word = (
                hashlib.sha256(seed.encode()).hexdigest().translate(str.maketrans("0123456789", "ghijklmnop"))
            )
            if word not in self.template.source and word not in beside:
                return word
        raise AssertionError("a hundred SHA-256 words inside one template")

    def cut(
        self, text: str, marks: Mapping[Part, str], *, needed: Callable[[Part], bool] | None = None
    ) -> tuple[list[str], list[Part]]:
        """The text between the placeholders, and their order; every content is `needed` unless that is given.

        E551 for a needed placeholder that is not there, and for one that is there twice.
        """
        needed = needed or (lambda key: key[1] == "content")
        order = sorted((key for key in marks if marks[key] in text), key=lambda key: text.index(marks[key]))
        for key in marks:
            count = text.count(marks[key])
            # A thought of an earlier turn is left out by templates that know thoughts.
            if count > 1 or (count == 0 and needed(key)):
                raise self._refusal("leaves out" if count == 0 else "repeats", key)
        literals = []
        for key in order:
            literal, text = text.split(marks[key], 1)
            literals.append(literal)
        return [*literals, text], order

    def slot(
        self, k: int, key: Part, bare: list[str], edged: list[list[str]], *, escapes: bool = False
    ) -> Slot:
        """The slot with what the template strips, seen where this content has edges of white space.

        Unless it `escapes`, writing the content as a JSON string is altering it.
        """
        message, part = key
        seen = [tuple(literals[k : k + 2]) for literals in edged if len(literals) == len(bare)]
        kind: Literal["content", "thought"] = "thought" if part == "thought" else "content"
        if escapes and seen == [(bare[k] + _escaped(e), _escaped(e) + bare[k + 1]) for e in EDGES]:
            return Slot(message, kind, escaped=True)
        for left in _STRIPS:
            for right in _STRIPS:
                ends = [(bare[k] + e.lstrip(left), e.rstrip(right) + bare[k + 1]) for e in EDGES]
                if seen == ends:
                    return Slot(message, kind, left, right)
        raise self._refusal("alters", key)

    def _refusal(self, what: str, key: Part) -> TrueupError:
        return TrueupError(
            "E551",
            f"the template {what} the {key[1]} of message {key[0] + 1}",
            where=f"template {self.template.name}",
            remedy="name another template, or put the content where this one has a place for it",
        )


def _escaped(text: str) -> str:
    """The inside of the JSON string that transformers' `tojson` makes of a text."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _parts(turn: tuple[str, ...]) -> list[tuple[str, str]]:
    """The names of a turn's parts, with what its shape says of them."""
    _, kind, *parts = turn
    return list(zip(("thought", "content") if kind == "thought" else ("content",), parts, strict=True))


def _filled(shape: Shape, marks: Mapping[Part, str], edged: Part | None, edge: str, tags: str) -> list[Turn]:
    """Turns of this shape with the placeholders in place of contents, one of them with `edge` around it."""
    turns = []
    for index, turn in enumerate(shape):
        shown = [marks.get((index, name), part) for name, part in _parts(turn)]
        shown = [
            edge + s + edge if (index, n) == edged else s
            for s, (n, _) in zip(shown, _parts(turn), strict=True)
        ]
        turns.append((turn[0], tags.format(*shown) if turn[1] == "thought" else shown[0]))
    return turns


def think_parts(content: str) -> tuple[str, str]:
    """An assistant's thought and answer: what lies before the first `</think>`, and after the last."""
    thought = content.split(CLOSE)[0].rstrip("\n").split(OPEN)[-1].lstrip("\n")
    return thought, content.split(CLOSE)[-1].lstrip("\n")
