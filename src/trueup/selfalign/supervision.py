"""Supervision: all that people write for SELF-ALIGN, in one file that a user can replace.

Principles, exemplars with internal thoughts, question types, seed tasks, and the forms in which a base model
is shown them: texts that it continues. What goes between parts is the file's own, since a model continues
best what looks like the texts it was trained on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

from annotated_types import MinLen

from trueup.engine.groups import Message, Role
from trueup.errors import TrueupError
from trueup.settings.forms import check_pattern, fill, read_form
from trueup.sources.open import world_groups
from trueup.worlds import door_of, open_world, written

FILES = Path(__file__).parent / "files"


@dataclass(frozen=True, kw_only=True)
class Principle:
    """A rule that answers follow; its number is its place in the file, from 1."""

    name: str
    rule: str


@dataclass(frozen=True, kw_only=True)
class Exemplar:
    """A question, what is thought before it is answered, and the answer."""

    query: str
    thought: str
    "After `opening`: what the question is, and the numbers of the rules that bear on it."
    answer: str


@dataclass(frozen=True, kw_only=True)
class QuestionType:
    """A kind of question that is hard to answer well, with one example."""

    name: str
    topic: str
    instruction: str


@dataclass(frozen=True, kw_only=True)
class Listing:
    """A list that the model continues: `head`, then items that each begin by `mark` and `hint`."""

    head: str
    "May name `{type}`, where one type is asked about."
    mark: Annotated[str, MinLen(1)]
    "What begins an item; `{number}` is its number from 1."
    hint: str = ""
    "After the mark: what the item is to be about, by `{type}` and `{topic}`."
    stop: tuple[Annotated[str, MinLen(1)], ...] = ()
    "Further strings that end the list."

    def begin(self, number: int, type: str = "", topic: str = "") -> tuple[str, str]:
        """What stands before an item's own text: its mark, and its hint."""
        return fill(self.mark, {"number": str(number)}), fill(self.hint, {"type": type, "topic": topic})


@dataclass(frozen=True, kw_only=True)
class Dialogue:
    """How a question, thoughts and an answer follow each other in a text."""

    head: str
    "What stands first; `{rules}` are the principles."
    rule: str
    "One principle, by `{number}`, `{name}` and `{rule}`."
    user: Annotated[str, MinLen(1)]
    "What begins a question, and so ends an answer."
    thoughts: str
    "What begins the thoughts."
    answer: Annotated[str, MinLen(1)]
    "What begins the answer."
    opening: str
    "How all thoughts begin: the fixed words in which the assistant describes itself."
    numbers: str
    "A regular expression whose first group holds the numbers of rules in some thoughts."


_Said = Annotated[str, MinLen(1)]
"An empty text would be found in everything."


@dataclass(frozen=True, kw_only=True)
class Words:
    """What filters look for, without regard to case."""

    banned: tuple[_Said, ...] = ()
    "An instruction with one of these words, or several in a row, asks for what a text model cannot do."
    banned_openings: tuple[_Said, ...] = ()
    "An instruction may not begin so."
    leaked: tuple[_Said, ...] = ()
    "An answer with one of these has copied an exemplar or a heading."
    apologies: tuple[_Said, ...] = ()
    "An answer that begins so is dropped."
    cut_openings: tuple[_Said, ...] = ()
    "Regular expressions: what they match at an answer's beginning is cut off."
    other_names: tuple[_Said, ...] = ()
    "Names of other assistants, replaced by `assistant`."


@dataclass(frozen=True, kw_only=True)
class Identity:
    """A question about the assistant itself, and its answer."""

    query: str
    answer: str


@dataclass(frozen=True, kw_only=True)
class Supervision:
    """Everything that people wrote for one assistant."""

    assistant: str
    "Its name."
    header: str = ""
    "The short system message that it is trained under; without one, questions stand alone."
    verbose: str = ""
    "The extensive system message of verbose cloning."
    verbose_context: str = ""
    "Dialogues in place of it: `world:hhh`, or a file of demonstrations."
    verbose_dialogues: int = 2
    principles: Annotated[tuple[Principle, ...], MinLen(1)]
    exemplars: Annotated[tuple[Exemplar, ...], MinLen(1)]
    question_types: tuple[QuestionType, ...]
    tasks: str | tuple[str, ...]
    "Seed instructions, or a world's prompts by `WORLD:NAME`."
    new_tasks: Listing
    topics: Listing
    hinted: Listing
    dialogue: Dialogue
    words: Words = Words()
    identity: tuple[Identity, ...] = ()
    "Pairs that are added to the answers as they are."

    def __post_init__(self) -> None:
        check_pattern("dialogue.numbers", self.dialogue.numbers, groups=1)
        for pattern in self.words.cut_openings:
            check_pattern("words.cut_openings", pattern)

    @cached_property
    def digest(self) -> str:
        """A SHA-256 over all of it."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    @cached_property
    def seeds(self) -> tuple[str, ...]:
        """The seed instructions."""
        if not isinstance(self.tasks, str):
            return self.tasks
        door = door_of(self.tasks)
        if door is None:
            raise TrueupError(
                "E705",
                f"no tasks {self.tasks!r}",
                where="tasks",
                remedy="list them, or name a world's",
            )
        asked = world_groups(open_world(door.world), door.name, split="train", limit=None)
        return tuple(group.prompt[-1].content for group in asked)

    @property
    def rules(self) -> str:
        """The principles, as the dialogue's head shows them."""
        return "".join(
            fill(self.dialogue.rule, {"number": str(number), "name": p.name, "rule": p.rule})
            for number, p in enumerate(self.principles, 1)
        )

    def thinking(self, query: str) -> tuple[Message, ...]:
        """The text that a base model continues by its thoughts on a question."""
        form = self.dialogue
        head = fill(form.head, {"rules": self.rules})
        shown = "".join(
            f"{form.user}{e.query}{form.thoughts}{form.opening}{e.thought}{form.answer}{e.answer}"
            for e in self.exemplars
        )
        text = f"{head}{shown}{form.user}{query}{form.thoughts}"
        return (Message(Role.TEXT, text),)

    def asked(self, query: str, system: str = "") -> tuple[Message, ...]:
        """The question as a conversation, under a system message if there is one."""
        head = (Message(Role.SYSTEM, system),) if system else ()
        return (*head, Message(Role.USER, query))


def read_supervision(name: str) -> Supervision:
    """The supervision in a YAML file, of a world (`WORLD:supervision`), or that comes with trueup.

    Raises E801 for a missing file, E7xx for one that says something else.
    """
    return read_form(Supervision, written(name, "supervision"), FILES, "supervision")


def sections(text: str, begins: Sequence[str]) -> list[str]:
    """The pieces of a list, cut where each of `begins` stands next; one that is not found ends the last."""
    pieces: list[str] = []
    for begin in begins:
        before, found, after = text.partition(begin)
        pieces.append(before)
        if not found:
            return pieces
        text = after
    return [*pieces, text]
