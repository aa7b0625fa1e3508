"""An answerer that says what functions of the conversation say, and constitutions small enough to read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trueup.answerers import Answer, Conversation, Floats
from trueup.constitution.principles import Constitution, Contest, Correction, Criterion, Transcript
from trueup.engine.groups import Message, Role


def user(text: str) -> Message:
    return Message(Role.USER, text)


def assistant(text: str) -> Message:
    return Message(Role.ASSISTANT, text)


@dataclass
class Scripted:
    """Says `say(conversation, seed, place)` and gives `odds(conversation)` as log-probs of the labels."""

    say: Callable[[Conversation, int, int], str] = lambda conversation, seed, place: "yes"
    odds: Callable[[Conversation], Sequence[float]] = lambda conversation: (-1.0, -2.0)
    name: str = "scripted"
    calls: int = 0
    seen: list[Conversation] = field(default_factory=list)

    def complete(
        self, prompts: Sequence[Conversation], *, k: int = 1, seed: int = 0, **_: Any
    ) -> list[list[Answer]]:
        self.calls += 1
        self.seen += prompts
        return [[Answer(text=self.say(p, seed, i * k + j)) for j in range(k)] for i, p in enumerate(prompts)]

    def logprobs(self, prompts: Sequence[Conversation], candidates: Sequence[Sequence[str]]) -> list[Floats]:
        self.seen += prompts
        return [np.asarray(self.odds(p), np.float64) for p in prompts]


SMALL = Constitution(
    name="small",
    corrections=(Correction(id="kind", critique="Is it kind?", revision="Make it kind."),),
    criteria=(Criterion(id="kind", text="Which is kinder?"), Criterion(id="short", text="Which is shorter?")),
    transcripts=(
        Transcript(
            principle="kind", prompt="Hi.", completion="Go.", critique="It is curt.", revision="Hello!"
        ),
    ),
    contests=(Contest(prompt="Hi.", first="Hello!", second="Go.", better="first"),),
)
