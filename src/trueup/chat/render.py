"""A chat template run in the sandbox, and its output taken apart into template text and places for content.

The template is rendered with placeholders in place of the contents; the rendered text is then cut at the
placeholders. What is left is text that the template owns. The contents never meet the placeholders: they are
put in afterwards, as token ids. So no content can imitate a placeholder, and one rendering serves every
conversation of the same shape (roles, and which contents are blank).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from typing import Any, Literal

from trueup.chat import bounded
from trueup.chat.carried import bare
from trueup.chat.parsed import Parsed, Skeleton, Slot, escaped
from trueup.chat.templates import is_ours
from trueup.errors import TrueupError

OPEN, CLOSE = "<think>", "</think>"
_TAGS, _TAGS_IN_SHORT = "<think>\n{}\n</think>\n\n{}", "{}</think>{}"
"Two ways to write a thought and an answer that mean the same to a template that knows thoughts."
EDGES = ("\n \t \n", " \n\t\n ")
"White space around a content, to see what a template strips: what begins with one kind hides the other."
_STRIPS: tuple[str | None, ...] = ("", None, "\n", " ", " \n")
"What templates take off the ends of a content, as the argument of `str.strip`; '' for nothing."

_LENGTH = 64
_LETTERS = re.compile("[a-p]{64,}")
"Placeholders, and what may hold them."
_MOST_KNOWN = 200_000
"Turns in all skeletons that are kept, with twenty for each."

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

    @cached_property
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
        reply = self.reply(messages, tools=tools, generation=generation)
        if "pieces" in reply:
            return "".join(reply["pieces"])
        raise self.refusal(reply)

    def refusal(self, reply: Mapping[str, Any]) -> TrueupError:
        """The error that a reply tells of."""
        kind, said = reply["error"], reply["reason"]
        code, remedy = "E550", "repair it or name another template"
        reason = f"not valid Jinja: {said}" if kind == "syntax" else f"it failed: {said}"
        if kind == "security":
            reason, remedy = f"the sandbox refused it: {said}", "do not trust this model's template"
        elif kind == "refused":
            code, remedy = "E351", "change the conversation, or name another template"
            reason = f"the template refuses this conversation: {said}"
        elif kind in ("time", "memory"):
            most = f"{bounded.SECONDS:g} s" if kind == "time" else f"{bounded.MEMORY >> 20} MiB of memory"
            code, remedy = "E365", "shorten the conversation, or name another template"
            reason = f"a conversation takes it more than {most}" + (f": {said}" if said else "")
        return TrueupError(code, reason, where=f"template {self.name}", remedy=remedy)

    def reply(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Any = None,
        generation: bool,
        holes: Sequence[tuple[int, str, int]] = (),
    ) -> dict[str, Any]:
        """What the sandbox replies (`woven.render`): in this process where the template is trueup's own."""
        request = {
            "variables": dict(self.variables),
            "today": self.today.isoformat(),
            "messages": list(messages),
            "tools": tools,
            "generation": generation,
            "holes": list(holes),
            "parts": self.parts,
        }
        if self._ours:
            from trueup.chat import woven

            return woven.render({**request, "source": self.source})
        return bounded.render(self.digest, self.source, request)

    @cached_property
    def _ours(self) -> bool:
        return is_ours(bare(self.source))


@dataclass(frozen=True, eq=False)
class Layout:
    """A template's skeletons, made once for each shape of conversation."""

    template: Template
    thinks: bool = False
    "Whether the template takes assistant contents apart at `</think>`, as Qwen3's does."
    known: dict[Any, Any] = field(default_factory=dict, repr=False)
    _weight: Counter[str] = field(default_factory=Counter, repr=False)

    def skeleton(self, turns: Sequence[Turn], *, generation: bool) -> Skeleton:
        """The skeleton for conversations of this shape, in the order in which the template puts the contents.

        E551 when the template repeats a content, leaves one out, or changes it in another way than trimming.
        """
        if filled := self._from_parsed(turns, generation):
            return filled[0]
        shape = tuple((role, *self._shape(role, content)) for role, content in turns)
        key = (shape, generation)
        if key not in self.known:
            self.keep(key, self._make(shape, generation), len(shape))
        return self.known[key]

    def _from_parsed(self, turns: Sequence[Turn], generation: bool) -> tuple[Skeleton, list[str]] | None:
        """The parsed form of conversations of this shape, and this one's contents; None where there is none.

        That is where the template reads contents, and for thoughts, which it takes apart.
        """
        if any(self._is_thought(*turn) for turn in turns):
            return None
        shape = tuple((role, "x" if content.strip() else content) for role, content in turns)
        key = ("parsed", shape, generation)
        if key not in self.known:
            self.keep(key, self._parsed(shape, generation), len(shape))
        parsed: Parsed | None = self.known[key]
        contents = parsed and parsed.contents([content for _, content in turns])
        return None if parsed is None or contents is None else (parsed.skeleton, contents)

    def _parsed(self, shape: Sequence[Turn], generation: bool) -> Parsed | None:
        said = [{"role": role, "content": content} for role, content in shape]
        places = [index for index, (_, content) in enumerate(shape) if content == "x"]
        holes = [(index, "content", index) for index in places]
        reply = self.template.reply(said, generation=generation, holes=holes)
        if reply.get("error") in ("time", "memory"):
            raise self.template.refusal(reply)
        return Parsed.of(reply, places)

    def keep(self, key: Any, value: Any, weight: int) -> None:
        """None; the value is `known`, for conversations of so many turns. The oldest make room.

        Blank contents are part of keys, so data can make many of them.
        """
        self.known[key] = value
        self._weight[""] += weight + 20
        if self._weight[""] > _MOST_KNOWN:
            self.known.clear()
            self._weight.clear()
            self.known[key] = value

    def fill(self, turns: Sequence[Turn], *, generation: bool) -> tuple[Skeleton, list[str]]:
        """The skeleton and the trimmed content of each slot, from the parsed form where it holds.

        Otherwise they are checked against the template's own rendering: E353 when it renders these very
        contents otherwise, that is, when it looks at them.
        """
        if filled := self._from_parsed(turns, generation):
            return filled
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

    def text(self, turns: Sequence[Turn], *, generation: bool) -> str:
        """The text of a conversation, from the parsed form where it holds."""
        if filled := self._from_parsed(turns, generation):
            return filled[0].splice(filled[1])
        return self.template.render(turns, generation=generation)

    def _is_thought(self, role: str, content: str) -> bool:
        return self.thinks and role == "assistant" and CLOSE in content

    def _shape(self, role: str, content: str) -> tuple[str, ...]:
        """What the template may see of a content: white space as it is, otherwise only that there is some."""
        if self._is_thought(role, content):
            return ("thought", *(part if not part.strip() else "x" for part in think_parts(content)))
        return ("content", "x" if content.strip() else content)

    def _make(self, shape: Shape, generation: bool) -> Skeleton:
        digest = hashlib.sha256(repr(shape).encode()).hexdigest()
        marks = {
            (index, name): self.placeholder(digest, index, name)
            for index, turn in enumerate(shape)
            for name, part in _parts(turn)
            if part == "x"
        }

        def render(edged: Sequence[Part] = (), edge: str = "", tags: str = _TAGS) -> str:
            return self.template.render(_filled(shape, marks, edged, edge, tags), generation=generation)

        thoughts = [index for index, (_, kind, *_) in enumerate(shape) if kind == "thought"]
        # Were the tags in the output those of the content, the output would tell the two forms apart.
        if thoughts and render(tags=_TAGS_IN_SHORT) != render():
            raise self._refusal("writes out the tags in", (thoughts[0], "content"))
        literals, order = self.cut(render(), marks)
        slots = self.slots(order, literals, lambda parts, edge: self.cut(render(parts, edge), marks)[0])
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

    def like_placeholders(self, texts: Iterable[str]) -> str:
        """The runs of letters in these texts that are as long as a placeholder: it must not be one."""
        return " ".join(run for text in texts for run in _LETTERS.findall(text))

    def cut(
        self, text: str, marks: Mapping[Part, str], *, needed: Callable[[Part], bool] | None = None
    ) -> tuple[list[str], list[Part]]:
        """The text between the placeholders, and their order; every content is `needed` unless that is given.

        E551 for a needed placeholder that is not there, and for one that is there twice.
        """
        needed = needed or (lambda key: key[1] == "content")
        parts = {mark: part for part, mark in marks.items()}
        found = [(at, parts[word]) for at, word in _words(text, parts)]
        counts = Counter(part for _, part in found)
        for key in marks:
            # A thought of an earlier turn is left out by templates that know thoughts.
            if counts[key] > 1 or (counts[key] == 0 and needed(key)):
                raise self._refusal("leaves out" if counts[key] == 0 else "repeats", key)
        ends = [0, *(at + len(marks[part]) for at, part in found)]
        starts = [*(at for at, _ in found), len(text)]
        return [text[a:b] for a, b in zip(ends, starts, strict=True)], [part for _, part in found]

    def slots(
        self,
        order: Sequence[Part],
        bare: list[str],
        edged: Callable[[Sequence[Part], str], list[str]],
        escapes: Callable[[Part], bool] = lambda part: False,
    ) -> list[Slot]:
        """The slots of the parts, with what the template strips off each.

        `bare` is the text between them, and `edged` what it is with white space around some of them: every
        other one, so that what is on the two sides of a text is told apart, however many there are.
        """
        seen = [[edged(order[k::2], edge) for edge in EDGES] for k in range(min(2, len(order)))]
        return [self.slot(k, part, bare, seen[k % 2], escapes=escapes(part)) for k, part in enumerate(order)]

    def slot(
        self, k: int, key: Part, bare: list[str], edged: list[list[str]], *, escapes: bool = False
    ) -> Slot:
        """The slot with what the template strips, seen where this content has edges of white space.

        Unless it `escapes`, writing the content as a JSON string is altering it.
        """
        message, part = key
        seen = [tuple(literals[k : k + 2]) for literals in edged if len(literals) == len(bare)]
        kind: Literal["content", "thought"] = "thought" if part == "thought" else "content"
        if escapes and seen == [(bare[k] + escaped(e), escaped(e) + bare[k + 1]) for e in EDGES]:
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


def _words(text: str, words: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    """Where in a text which of the words stands that are placeholders, in one pass."""
    for run in _LETTERS.finditer(text):
        for at in range(run.start(), run.end() - _LENGTH + 1):
            if text[at : at + _LENGTH] in words:
                yield at, text[at : at + _LENGTH]


def _parts(turn: tuple[str, ...]) -> list[tuple[str, str]]:
    """The names of a turn's parts, with what its shape says of them."""
    _, kind, *parts = turn
    return list(zip(("thought", "content") if kind == "thought" else ("content",), parts, strict=True))


def _filled(
    shape: Shape, marks: Mapping[Part, str], edged: Iterable[Part], edge: str, tags: str
) -> list[Turn]:
    """Turns of this shape with placeholders in place of contents, `edged` ones with `edge` around them."""
    turns, edged = [], set(edged)
    for index, turn in enumerate(shape):
        shown = [marks.get((index, name), part) for name, part in _parts(turn)]
        shown = [
            edge + s + edge if (index, n) in edged else s
            for s, (n, _) in zip(shown, _parts(turn), strict=True)
        ]
        turns.append((turn[0], tags.format(*shown) if turn[1] == "thought" else shown[0]))
    return turns


def think_parts(content: str) -> tuple[str, str]:
    """An assistant's thought and answer: what lies before the first `</think>`, and after the last."""
    thought = content.split(CLOSE)[0].rstrip("\n").split(OPEN)[-1].lstrip("\n")
    return thought, content.split(CLOSE)[-1].lstrip("\n")
