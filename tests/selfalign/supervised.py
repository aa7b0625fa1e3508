"""What people wrote, an answer that passes every filter, and a model that says what a test wants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from trueup.answerers import Answer, Conversation
from trueup.selfalign.supervision import read_supervision

GENERAL, LAB = read_supervision("general"), read_supervision("lab")
FORM = GENERAL.dialogue
LONG = (
    "Day length decides when they turn. "
    + "Cold nights hasten it, and dry summers bring it forward by weeks. "
)
GOOD = f"{LONG}Trees that stand near street lamps keep their green for longer, as towns have seen."


@dataclass(frozen=True, kw_only=True, eq=False)
class Scripted:
    """An answerer that says what a function of prompt, seed and place says."""

    say: Any
    name: str = "scripted"
    asked: list[Conversation] = field(default_factory=list)

    def complete(
        self, prompts: Sequence[Conversation], *, seed: int = 0, **options: Any
    ) -> list[list[Answer]]:
        self.asked.extend(prompts)
        return [[Answer(text=self.say(p[-1].content, seed, i))] for i, p in enumerate(prompts)]
