"""Models that say what they are told to, judges that are scripted, and a battle among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trueup.answerers import Answer, Conversation
from trueup.engine.groups import Group
from trueup.judges.language_model import Verdict
from trueup.sources.sample import Decoding


class Killed(BaseException):
    """Ends a battle where a kill would."""


@dataclass(kw_only=True, eq=False)
class Model:
    """Answers prompt n of a stretch with its text, so many times as the prompt's number says, and counts."""

    name: str
    asked: list[int]
    dies_at: int = 10**9

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
        self.asked.append(len(prompts))
        if len(self.asked) >= self.dies_at:
            raise Killed
        said = [prompt[-1].content for prompt in prompts]
        return [[Answer(text=f"{self.name} on {text} {sample}") for sample in range(k)] for text in said]


@dataclass(kw_only=True, eq=False)
class Comparer:
    """Compares two answers by who wrote them: the earlier name is better, but for some prompts."""

    asked: list[int]
    always_first: bool = False
    dies_at: int = 10**9

    def compare(self, duels: Sequence[tuple[Group, int, int]]) -> list[Verdict]:
        self.asked.append(len(duels))
        if len(self.asked) >= self.dies_at:
            raise Killed
        return [self._verdict(group) for group, _, _ in duels]

    def _verdict(self, group: Group) -> Verdict:
        if self.always_first:
            return Verdict(0.9, 0.1, 0.5, 1.0)
        one, other = (c.source for c in group.completions)
        upset = int(group.prompt[-1].content.split()[-1].strip("?")) % 3 == 0
        p = 0.9 if (one < other) != upset else 0.1
        return Verdict(p, p, p, 1.0)


@dataclass(kw_only=True, eq=False)
class Arena:
    """What a test asks of its battle: how often who was asked, and when somebody dies."""

    home: Path
    answered: list[int] = field(default_factory=list)
    judged: list[int] = field(default_factory=list)
    always_first: bool = False
    model_dies_at: int = 10**9
    judge_dies_at: int = 10**9
