"""Prompts drawn again until enough of them can teach: those whose completions do not all score alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from trueup.annotate.overlong import SoftOverlong
from trueup.annotate.scores import Scores
from trueup.annotate.select import Kept
from trueup.engine.groups import Group, each
from trueup.engine.method import Annotator, Handles, Parts, Source
from trueup.errors import TrueupError
from trueup.settings.blocks import LoopSettings
from trueup.sources.sample import Decoding, from_policy


def informative(group: Group) -> bool:
    """Whether the completions' scores differ: where they are all equal, every advantage in the group is 0."""
    return len({c.marks["score"] for c in group.completions}) > 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """Yields the groups of a source with their `score`."""

    source: Source
    scores: Annotator

    @property
    def writes(self) -> frozenset[str]:
        """What the source writes, and the score."""
        return self.source.writes | self.scores.writes

    def __call__(self, step: int, handles: Handles) -> list[Group]:
        """The groups of step `step`."""
        return self.scores(list(self.source(step, handles)), handles)


@dataclass(frozen=True, kw_only=True, eq=False)
class Redrawn:
    """Yields everything that a step drew, the first `batch` informative groups with the mark `kept` 1.

    P(kept = x) = p(x) m(x) / Σ_x' p(x') m(x'),  m(x) = P(the K scores of prompt x are not all equal)

    Batches of prompts are drawn and scored until `batch` groups are informative, at most `most` of them; what
    is over the number is marked 0 like the others, and `Kept` drops it. Where no group is informative, the
    last batch is kept: its advantages are 0. Batch number n of the run is the n-th of an endless walk, n is
    `handles.state["batches_drawn"]`, and what a batch draws depends on the seed and n alone: a run that is
    stopped inside a step and started again draws the same. Reference: Yu et al. 2025 (DAPO's dynamic
    sampling).
    """

    judged: Judged
    batch: int
    most: int

    @property
    def writes(self) -> frozenset[str]:
        """What the source writes, the score, and `kept`."""
        return self.judged.writes | {"kept"}

    def __call__(self, step: int, handles: Handles) -> list[Group]:
        """The groups of step `step`; logs how many batches it took, and the share of informative groups."""
        drawn: list[list[Group]] = []
        found = 0
        while len(drawn) < self.most and found < self.batch:
            number = int(handles.state.get("batches_drawn", 0.0))
            drawn.append(self.judged(number, handles))
            handles.state["batches_drawn"] = number + 1.0
            found += sum(informative(group) for group in drawn[-1])
        groups = [group for part in drawn for group in part]
        handles.record({"dynamic/batches": float(len(drawn)), "dynamic/informative": found / len(groups)})
        teach = [i for i, group in enumerate(groups) if informative(group)][: self.batch]
        kept = set(teach or range(len(groups) - len(drawn[-1]), len(groups)))
        return [_marked(group, float(i in kept)) for i, group in enumerate(groups)]


def _marked(group: Group, kept: float) -> Group:
    return each([group], lambda c: c.with_marks(kept=kept))[0]


class Drawing(Protocol):
    """What a method's settings say of the completions of a step."""

    @property
    def loop(self) -> LoopSettings: ...

    @property
    def num_completions(self) -> int: ...

    @property
    def decoding(self) -> Decoding: ...


def from_judged_policy(
    parts: Parts, config: Drawing, scores: Scores, *, max_batches: int, overlong_cache: int
) -> tuple[Source, Source | None, tuple[Annotator, ...]]:
    """The policy's completions of a method's prompts, held-out ones, and the stages that leave them scored.

    With one batch a step the first stage is `scores` itself; with more, scoring is part of the drawing, and
    held-out prompts are all kept. Lengths are penalised afterwards: the judge says whether scores differ.
    Raises E443 where the penalty would begin before the first token.
    """
    batch, decoding = config.loop.batch, config.decoding
    source, held_out = from_policy(
        parts, batch=batch, num_completions=config.num_completions, decoding=decoding
    )
    if overlong_cache >= decoding.max_new_tokens:
        raise TrueupError(
            "E443",
            f"{overlong_cache} tokens of penalty leave none of {decoding.max_new_tokens} without",
            where="algorithm.overlong_cache",
            remedy="a smaller one, or a larger decoding.max_new_tokens",
        )
    overlong = SoftOverlong(longest=decoding.max_new_tokens, cache=overlong_cache)
    shaped = (overlong,) if overlong_cache else ()
    if max_batches == 1:
        return source, held_out, (scores, *shaped)
    redrawn = Redrawn(judged=Judged(source=source, scores=scores), batch=batch, most=max_batches)
    return redrawn, held_out and Judged(source=held_out, scores=scores), (Kept(), *shaped)
