"""The groups on which a reward model's score is given mean 0."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from trueup.engine.groups import Group
from trueup.engine.method import Handles, Parts
from trueup.engine.order import derive, permutation
from trueup.engine.views import picked, where
from trueup.errors import TrueupError
from trueup.sources.sample import Decoding, sample_groups

NUM_SAMPLES = 256


@dataclass(frozen=True, kw_only=True, eq=False)
class Zero:
    """The training completions, the rows that nobody judged, or samples of the model it starts from."""

    on: Literal["completions", "demonstrations", "samples"]
    limit: int | None
    "Groups that are read at most, drawn by the run's seed; None for all."
    train: Sequence[Group]
    parts: Parts

    def __post_init__(self) -> None:
        """Raises E604 when the mean of unjudged rows is asked for and there is none."""
        if self.on == "demonstrations" and not self._unjudged():
            raise TrueupError(
                "E604",
                "no row without a judgement, on which the score's mean could be 0",
                where="normalise.on",
                remedy="add demonstrations by data.mix, or normalise on completions",
            )

    def __call__(self, handles: Handles) -> Sequence[Group]:
        """The groups; the samples are those of the network `policy`."""
        if self.on == "completions":
            return self._some(self.train, handles.seed)
        if self.on == "demonstrations":
            return self._some(self._unjudged(), handles.seed)
        return sample_groups(
            self.train[:NUM_SAMPLES],
            handles.networks["policy"],
            decode=self.parts.decode,
            stop_ids=self.parts.stop_ids,
            k=1,
            decoding=Decoding(),
            seed=derive(handles.seed, "normalise"),
            ranks=handles.ranks,
        )

    def _some(self, groups: Sequence[Group], seed: int) -> Sequence[Group]:
        if self.limit is None or len(groups) <= self.limit:
            return groups
        return picked(groups, sorted(permutation(len(groups), seed, "normalise")[: self.limit].tolist()))

    def _unjudged(self) -> Sequence[Group]:
        return where(self.parts.groups, lambda group: group.completions and not group.pairs())
