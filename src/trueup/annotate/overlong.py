"""A penalty that grows as a completion nears the length limit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trueup.engine.groups import Group, each
from trueup.engine.method import Handles


@dataclass(frozen=True, kw_only=True)
class SoftOverlong:
    """Rewrites `score`: a completion of T tokens, its end included, loses up to 1 in the last `cache` tokens.

    score ← score + clip((longest − cache − T) / cache, −1, 0)

    Nothing up to longest − cache tokens, −1 at `longest`, linear between. Reference: Yu et al. 2025,
    equation 13.
    """

    longest: int
    "The length limit, tokens."
    cache: int
    "How many tokens before it the penalty begins."

    reads = frozenset({"score"})
    writes = frozenset({"score"})

    def __call__(self, groups: list[Group], handles: Handles) -> list[Group]:
        """The groups with `score`; logs the mean penalty."""
        penalties = [self.penalty(c.num_tokens) for group in groups for c in group.completions]
        handles.record({"overlong/penalty": float(np.mean(penalties))})
        return each(groups, lambda c: c.with_marks(score=c.marks["score"] + self.penalty(c.num_tokens)))

    def penalty(self, length: int) -> float:
        """What a completion of that many tokens loses, 0 or less."""
        return min(0.0, max(-1.0, (self.longest - self.cache - length) / self.cache))
