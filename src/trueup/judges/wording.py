"""What a language model is asked when it judges, in a file that a user can replace, and how it is read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple, final

import numpy as np

from trueup.answerers import Answerer, Conversation, Floats
from trueup.engine.groups import Message, Role
from trueup.errors import TrueupError
from trueup.settings.forms import check_pattern, fill, read_form
from trueup.sources.sample import Decoding

PROMPTS = Path(__file__).parent / "prompts"


@dataclass(frozen=True, kw_only=True)
class Wording:
    """A question with gaps in braces, and the labels that answer it."""

    labels: tuple[str, ...]
    "The answers, as the model would write them directly after the question."
    values: tuple[float, ...] = ()
    "What each label is worth, for a score."
    text: str = ""
    "A plain text that the labels continue; in place of `system` and `user`."
    system: str = ""
    user: str = ""
    principle: str = ""
    "What counts, in `{principle}`, unless the judge is given another."
    letter: str = ""
    "`{ask}` where log-probs of the labels are read."
    reasons: str = ""
    "`{ask}` where the model writes and its verdict is read from the text."
    verdict: str = ""
    "A regular expression whose first group is a label, stripped of spaces; its last match counts."

    def __post_init__(self) -> None:
        if (
            len(self.labels) < 2
            or bool(self.text) == bool(self.user)
            or len(self.values)
            not in (
                0,
                len(self.labels),
            )
        ):
            raise ValueError("give two labels or more, a value for each or none, and either `text` or `user`")
        if self.verdict:
            check_pattern("verdict", self.verdict, groups=1)

    @property
    def compares(self) -> bool:
        """Whether it asks which of two answers is better."""
        asked = self.text or self.user
        return len(self.labels) == 2 and "{first}" in asked and "{second}" in asked

    @property
    def scores(self) -> bool:
        """Whether it asks what one answer is worth."""
        return bool(self.values) and "{completion}" in (self.text or self.user)

    def fill(self, ask: str, **parts: str) -> Conversation:
        """The question with its gaps filled in; what is filled in is not looked at for gaps again."""
        own = {"principle": self.principle, "ask": ask}
        given = {**parts, **own, **{name: part for name, part in parts.items() if part}}
        if self.text:
            return (Message(Role.TEXT, fill(self.text, given)),)
        head = (Message(Role.SYSTEM, fill(self.system, given)),) if self.system else ()
        return (*head, Message(Role.USER, fill(self.user, given)))


def read_wording(name: str) -> Wording:
    """The wording in a YAML file, or the one of that name that comes with the package.

    Raises E801 for a missing file, E7xx for one that says something else.
    """
    return read_form(Wording, name, PROMPTS, "wording")


class Reading(NamedTuple):
    """What one question brought."""

    shares: Floats | None
    "How the labels share the answer, [number of labels], summing to 1; None where it names none of them."
    mass: float
    "The probability that the answer is one of the labels at all; of text, the share that could be read."


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Reader:
    """Asks, and reads how the labels share the answer.

    logprobs   softmax over log p(label | question), one forward pass, nothing is written
    text       the share of each label among `votes` written answers; one that names none is not counted
    """

    answerer: Answerer
    wording: Wording
    read: Literal["logprobs", "text"] = "logprobs"
    principle: str = ""
    votes: int = 1
    max_tokens: int = 512
    seed: int = 0

    def __post_init__(self) -> None:
        if self.read == "text" and not (self.wording.verdict and self.wording.user):
            raise TrueupError(
                "E792",
                "this wording has no `verdict` to read from a text",
                where="judge's wording",
                remedy="use read=logprobs, or a wording with user, reasons and verdict",
            )

    def question(self, **parts: str) -> Conversation:
        """The question about these texts."""
        ask = self.wording.letter if self.read == "logprobs" else self.wording.reasons
        wording = replace(self.wording, principle=self.principle or self.wording.principle)
        return wording.fill(ask, **parts)

    def ask(self, questions: Sequence[Conversation]) -> list[Reading]:
        """The reading of each question. Raises E963 where log-probs are to be read and there are none."""
        if self.read == "text":
            decoding = Decoding(max_new_tokens=self.max_tokens, greedy=self.votes == 1)
            drawn = self.answerer.complete(questions, decoding=decoding, k=self.votes, seed=self.seed)
            return [self._votes([answer.text for answer in answers]) for answers in drawn]
        found = self.answerer.logprobs(questions, [self.wording.labels] * len(questions))
        return [_softmax(logprobs) for logprobs in found]

    def _votes(self, texts: Sequence[str]) -> Reading:
        labels = [label.strip() for label in self.wording.labels]
        rows = []
        for text in texts:
            said = [m[1].strip() for m in re.finditer(self.wording.verdict, text) if m[1]]
            if said:
                # A verdict that is no label (a tie) is shared by all of them.
                mine = [float(label == said[-1]) for label in labels]
                rows.append(mine if any(mine) else [1 / len(labels)] * len(labels))
        return Reading(np.mean(rows, axis=0) if rows else None, len(rows) / len(texts))


def _softmax(logprobs: Floats) -> Reading:
    top = float(logprobs.max())
    if top == -np.inf:
        return Reading(None, 0.0)
    odds = np.exp(logprobs - top)
    return Reading(odds / odds.sum(), float(min(1.0, np.exp(top) * odds.sum())))


def conversation_text(prompt: Conversation) -> str:
    """A conversation as a judge reads it: a plain text as it is, turns under who speaks.

    A name and a colon alone (`User:`) are how some templates begin a turn, which no content may spell.
    """
    if len(prompt) == 1 and prompt[0].role == Role.TEXT:
        return prompt[0].content
    return "\n\n".join(f"The {m.role} says: {_words(m)}" for m in prompt)


def _words(message: Message) -> str:
    """What a turn says, and the calls that it makes."""
    calls = [f"{call.name}({call.arguments})" for call in message.tool_calls]
    return "\n".join(filter(None, (message.content, *calls)))
