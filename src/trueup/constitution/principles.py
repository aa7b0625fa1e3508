"""A constitution as a file: what a critic is asked, what a judge is asked, and examples of both."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from trueup.answerers import Conversation
from trueup.settings.forms import read_form
from trueup.worlds import written

FILES = Path(__file__).parent / "files"
Form = Literal["chat", "text"]
"How a model is asked: in turns of its own chat template, or by a plain text that it continues."


@dataclass(frozen=True, kw_only=True)
class Correction:
    """A principle of the supervised stage."""

    id: str
    critique: str
    "The request for a critique of the last answer."
    revision: str
    "The request for a revision that follows the critique; alone where critiques are left out."


@dataclass(frozen=True, kw_only=True)
class Transcript:
    """One answer critiqued and revised well, to put before a request."""

    principle: str
    "The id of the principle that it shows."
    prompt: str
    completion: str
    critique: str
    revision: str


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """A principle of the comparison stage."""

    id: str
    text: str
    "The question which of two answers follows it better."


@dataclass(frozen=True, kw_only=True)
class Contest:
    """One comparison made well under any criterion, to put before a question."""

    prompt: str
    first: str
    second: str
    better: Literal["first", "second"]


@dataclass(frozen=True, kw_only=True)
class Wording:
    """How a comparison is asked; {conversation}, {first}, {second}, {principle} and {ask} are filled in."""

    question: str
    letter: str
    "Asks for the label, which follows directly."
    reasons: str
    "Asks to reason first; `letter` comes after the reasons."
    labels: tuple[str, str]
    "The two answers as the model would write them."


CHAT = Wording(
    question=(
        "Read this conversation between a person and an assistant.\n\n{conversation}\n\n{principle}\n\n"
        "Options:\n(A) [[[{first}]]]\n(B) [[[{second}]]]\n\n{ask}"
    ),
    letter="Answer with one letter alone, A or B.",
    reasons="Think step by step and write your reasons down, but do not choose yet.",
    labels=("A", "B"),
)
TEXT = Wording(
    question=(
        "Read this conversation between a person and an assistant.\n\n{conversation}\n\n{principle}\n"
        "Options:\n(A) [[[{first}]]]\n(B) [[[{second}]]]\n{ask}"
    ),
    letter="The answer is:",
    reasons="Let us think step by step:",
    labels=(" (A)", " (B)"),
)


@dataclass(frozen=True, kw_only=True)
class Constitution:
    """Principles and how they are put to a model."""

    name: str
    corrections: tuple[Correction, ...]
    criteria: tuple[Criterion, ...]
    transcripts: tuple[Transcript, ...] = ()
    contests: tuple[Contest, ...] = ()
    chat: Wording = CHAT
    text: Wording = TEXT
    speakers: Mapping[str, str] = field(
        default_factory=lambda: {"user": "Human: ", "assistant": "Assistant: "}
    )
    "What stands before a turn, by role, wherever a conversation is written out."
    between: str = "\n\n"
    "What stands between the turns of such a conversation."

    def __post_init__(self) -> None:
        """Raises ValueError for principles that are missing or share an id, and for examples of none."""
        for kind, found in (("corrections", self.corrections), ("criteria", self.criteria)):
            ids = [principle.id for principle in found]
            if not ids or len(ids) != len(set(ids)):
                raise ValueError(f"`{kind}` must hold one principle or more, each with an id of its own")
        known = {principle.id for principle in self.corrections}
        for transcript in self.transcripts:
            if transcript.principle not in known:
                raise ValueError(
                    f"a transcript names no principle of the corrections: {transcript.principle!r}"
                )

    def correction(self, id: str) -> Correction:
        """The principle of that id."""
        return next(principle for principle in self.corrections if principle.id == id)

    def wording(self, form: Form) -> Wording:
        """How a comparison is asked in a form."""
        return self.chat if form == "chat" else self.text

    def written(self, prompt: Conversation) -> str:
        """A conversation written out as one text."""
        return self.between.join(self.speaker(str(m.role)) + m.content for m in prompt)

    def speaker(self, role: str) -> str:
        """What stands before a turn of that role."""
        return self.speakers.get(role, "")

    @property
    def digest(self) -> str:
        """A SHA-256 over everything that it says."""
        text = json.dumps(asdict(self), ensure_ascii=False, sort_keys=True, default=dict)
        return hashlib.sha256(text.encode()).hexdigest()


def read_constitution(name: str) -> Constitution:
    """The constitution in a YAML file, of a world (`WORLD:constitution`), or that comes with trueup.

    Raises E801 for a missing file, E71x for one that says something else.
    """
    return read_form(Constitution, written(name, "constitution"), FILES, "constitution")
