"""Completions of several writers for the same prompts: what files hold, the policy, other models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from trueup.engine.groups import Completion, Group
from trueup.engine.method import Handles, Parts
from trueup.engine.order import derive, draw
from trueup.errors import TrueupError
from trueup.sources.sample import Decoding, sample_groups


@dataclass(frozen=True, kw_only=True, eq=False)
class Joined:
    """Yields `batch` prompts a step, each with the data's own completions and fresh ones of every writer.

    `writers` maps a network's name to how many completions it writes for each prompt; each completion names
    its writer as its source. What the files say of their completions is dropped: a judge has to compare
    them all. Every sample is a function of the seed, the step, the writer and the places, as in `Sample`.
    """

    prompts: Sequence[Group]
    batch: int
    writers: Mapping[str, int]
    decode: Callable[[np.ndarray], str]
    stop_ids: tuple[int, ...]
    keep: bool = True
    "Whether the data's own completions take part."
    decoding: Decoding = Decoding()
    samples: bool = True
    "Those that carry `sampled_logprobs` were sampled here, and are counted as such."

    def __post_init__(self) -> None:
        """Raises E604 when there is no prompt."""
        if not self.prompts:
            raise TrueupError("E604", "no prompt to sample from", where="data", remedy="give more rows")

    @property
    def writes(self) -> frozenset[str]:
        """`sampled_logprobs`, unless completions of files are among them, which were not sampled here."""
        return frozenset() if self.keep else frozenset({"sampled_logprobs"})

    def __call__(self, step: int, handles: Handles) -> list[Group]:
        """The groups of step `step`; of networks that train, as they are now."""
        chosen = [
            self.prompts[i] for i in draw(len(self.prompts), self.batch, step, handles.seed, handles.epochs)
        ]
        kept = [[_as_filed(c) for c in g.completions] if self.keep else [] for g in chosen]
        for name, k in self.writers.items():
            _refuse_foreign_tokens(name, handles)
            drawn = sample_groups(
                chosen,
                handles.networks[name],
                decode=self.decode,
                stop_ids=self.stop_ids,
                k=k,
                decoding=self.decoding,
                seed=derive(handles.seed, "sample", name, step),
                name=name,
                ranks=handles.ranks,
            )
            for group, more in zip(kept, drawn, strict=True):
                group.extend(more.completions)
        return [
            replace(g, completions=tuple(written), comparisons=(), rankings=(), scores=())
            for g, written in zip(chosen, kept, strict=True)
        ]


def joined(
    parts: Parts, *, batch: int, writers: Mapping[str, int], keep: bool, decoding: Decoding
) -> tuple[Joined, Joined | None]:
    """The writers' completions of a method's prompts, and of all held-out prompts where there are any."""

    def of(prompts: Sequence[Group], size: int) -> Joined:
        return Joined(
            prompts=prompts,
            batch=size,
            writers=writers,
            decode=parts.decode,
            stop_ids=parts.stop_ids,
            keep=keep,
            decoding=decoding,
        )

    return of(parts.groups, batch), of(parts.held_out, len(parts.held_out)) if parts.held_out else None


def _as_filed(completion: Completion) -> Completion:
    """Without what was once recorded of sampling it, which was another run's."""
    columns = {name: c for name, c in completion.columns.items() if name != "sampled_logprobs"}
    return replace(completion, columns=columns)


def _refuse_foreign_tokens(name: str, handles: Handles) -> None:
    """Raises E729 when a writer's tokens mean something else to the policy, which learns from their ids."""
    mine, other = (getattr(handles.networks[n], "tokenizer", None) for n in ("policy", name))
    if mine is not None and other is not None and mine.get_vocab() != other.get_vocab():
        raise TrueupError(
            "E729",
            "this model's tokens are not the policy's",
            where=f"network {name}",
            remedy="write its completions into a file first, with `trueup train best_of_n`, and read that",
        )
