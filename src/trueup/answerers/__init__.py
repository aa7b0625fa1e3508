"""Who answers: the policy, any local model, or a server, behind one interface.

`complete` gives completions of conversations, `logprobs` says how likely given continuations are. A
conversation is a tuple of messages; one message of role `TEXT` is a plain text to be continued.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from trueup.engine.groups import Completion, Group, Message

if TYPE_CHECKING:
    from trueup.sources.sample import Decoding

Conversation = tuple[Message, ...]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answer:
    """One completion as its answerer gave it."""

    text: str
    finish: str = "stop"
    "Why it ended: `stop` by itself or at a stop string, `length` at the limit, or a server's other word."
    tokens: tuple[str, ...] = ()
    "The texts of its tokens, where log-probs came with them."
    logprobs: Floats | None = None
    "log p of each of its answerer's own tokens, end token included where there is one, float64 [L]."

    def completion(self, source: str) -> Completion:
        """The text as a completion that `source` wrote."""
        return Completion(text=self.text, source=source, finished=self.finish == "stop")


class Answerer(Protocol):
    """Anything that answers."""

    @property
    def name(self) -> str:
        """Who it is: the source of its completions, the labeler of its judgements."""
        ...

    def complete(
        self,
        prompts: Sequence[Conversation],
        *,
        decoding: Decoding,
        k: int = 1,
        stop: Sequence[str] = (),
        seed: int = 0,
        logprobs: bool = False,
    ) -> list[list[Answer]]:
        """K completions of each prompt, in order, cut before the first of the strings `stop`.

        E963 where log-probs are asked for and the answerer gives none.
        """
        ...

    def logprobs(self, prompts: Sequence[Conversation], candidates: Sequence[Sequence[str]]) -> list[Floats]:
        """log p(candidate | prompt) of the candidates of each prompt, in nats, without an end token: [K].

        E963 where the answerer gives no log-probs.
        """
        ...


def before_stop(text: str, stop: Sequence[str]) -> str:
    """The text before the first of the strings `stop`; an empty one stops nothing."""
    ends = [place for place in (text.find(s) for s in stop if s) if place >= 0]
    return text[: min(ends)] if ends else text


def complete_groups(
    groups: Sequence[Group], answerer: Answerer, *, decoding: Decoding, k: int = 1, seed: int = 0
) -> list[Group]:
    """The groups with `k` completions by the answerer in place of any they had, judgements dropped."""
    drawn = answerer.complete([g.prompt for g in groups], decoding=decoding, k=k, seed=seed)
    return [
        replace(
            group,
            completions=tuple(answer.completion(answerer.name) for answer in answers),
            comparisons=(),
            rankings=(),
            scores=(),
        )
        for group, answers in zip(groups, drawn, strict=True)
    ]
