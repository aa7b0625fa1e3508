"""Stored completions for some prompts, fresh ones for the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trueup.engine.groups import Group
from trueup.engine.method import Handles
from trueup.engine.order import derive, draw
from trueup.errors import TrueupError
from trueup.sources.files import preferred
from trueup.sources.sample import Sample


@dataclass(frozen=True, kw_only=True, eq=False)
class Mixed:
    """Yields the prompts of `sample`, a share of them with the completions they came with.

    Whether a place of a step takes the stored completions or fresh ones depends on the seed, the step and the
    place alone. Reference: Agarwal et al. 2024, algorithm 1, where one coin decides for a whole step.
    """

    sample: Sample
    data_share: float
    "Probability that a place keeps its stored completions."

    samples = True
    "Part of what it yields was sampled, and costs what sampling costs."

    def __post_init__(self) -> None:
        """Raises E604 when a prompt has nothing stored."""
        if not all(group.completions for group in self.sample.prompts):
            raise TrueupError(
                "E604",
                "a share of stored completions is wanted, and a row has none",
                where="data",
                remedy="name data with completions, or set data_share: 0",
            )

    @property
    def prompts(self) -> Sequence[Group]:
        """All prompts: what an epoch's length is counted by."""
        return self.sample.prompts

    @property
    def writes(self) -> frozenset[str]:
        """Nothing that every completion carries."""
        return frozenset()

    def __call__(self, step: int, handles: Handles) -> list[Group]:
        """The groups of step `step`, in the walk's order."""
        s = self.sample
        chosen = draw(len(s.prompts), s.batch, step, handles.seed, handles.epochs)
        stored = [
            derive(handles.seed, "stored", step, place) < self.data_share * 2**63
            for place in range(len(chosen))
        ]
        prompts = [s.prompts[i] for i, kept in zip(chosen, stored, strict=True) if not kept]
        fresh = iter(s.complete(prompts, step, handles) if prompts else [])
        return [
            preferred(s.prompts[i]) if kept else next(fresh) for i, kept in zip(chosen, stored, strict=True)
        ]
