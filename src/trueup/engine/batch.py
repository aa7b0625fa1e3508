"""Batch: the tensor view of some encoded groups, built by `packing.pack`, never stored.

All tokens of all groups lie in one flat row without padding. The prompt of a group is laid out once and its
K completions follow it; each completion attends to its prompt and to itself, to nothing else:

    row        p p p p  a a a  b b  |  q q q  c c c c
    positions  0 1 2 3  4 5 6  4 5  |  0 1 2  3 4 5 6
    group      -------- 0 --------  |  ----- 1 -----

Legend for shapes: S tokens in the row, T supervised completion tokens, N completions, P pairs, G groups.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trueup.engine.picks import Picks

Unit = Literal["token", "completion", "pair", "group"]
UNITS: tuple[Unit, ...] = ("token", "completion", "pair", "group")


class Span(NamedTuple):
    """A group's place in the row: its prompt, then its completions, as (start, length)."""

    prompt: tuple[int, int]
    completions: tuple[tuple[int, int], ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Index tensors over one flat row of tokens; see the module's picture.

    `at[t]` is the row index of the state that predicts supervised token t. The first token of each of a
    group's completions is predicted from the prompt's last state, so K of them share one row index.
    """

    tokens: Int[Tensor, " S"]
    positions: Int[Tensor, " S"]
    spans: tuple[Span, ...]
    at: Int[Tensor, " T"]
    picks: Picks
    targets: Int[Tensor, " T"]
    completion: Int[Tensor, " T"]
    "Which completion a supervised token belongs to."
    group: Int[Tensor, " N"]
    "Which group a completion belongs to."
    last: Int[Tensor, " N"]
    "Row index of a completion's last token, where a reward model reads its score."
    pairs: Int[Tensor, "P 2"]
    "Completion indices (chosen, rejected)."
    labels: Float[Tensor, " P"]
    "Probability that the first of the pair is preferred; 1 for a plain choice."
    strengths: Float[Tensor, " P"]
    pair_group: Int[Tensor, " P"]
    columns: Mapping[str, Float[Tensor, "T ..."]] = field(default_factory=dict)
    "A number, or a row of numbers, for every supervised token."
    marks: Mapping[str, Float[Tensor, " N"]] = field(default_factory=dict)

    @property
    def num_tokens(self) -> int:
        """S, the length of the row: what a forward pass costs."""
        return self.tokens.shape[0]

    @property
    def num_completions(self) -> int:
        """N."""
        return self.group.shape[0]

    @property
    def num_groups(self) -> int:
        """G."""
        return len(self.spans)

    @property
    def lengths(self) -> Int[Tensor, " N"]:
        """How many supervised tokens each completion has."""
        # Not `bincount`, for which the host would wait: it asks the device how many there are.
        return self.completion.new_zeros(self.num_completions).index_add(
            0, self.completion, torch.ones_like(self.completion)
        )

    def count(self, unit: Unit) -> int:
        """How many loss entries of a unit this batch holds; the loop divides by the whole minibatch's."""
        return self.group_of(unit).shape[0]

    def group_of(self, unit: Unit) -> Int[Tensor, " n"]:
        """Which group each entry of a unit belongs to."""
        owners = {
            "token": self.group[self.completion],
            "completion": self.group,
            "pair": self.pair_group,
            "group": torch.arange(self.num_groups, device=self.tokens.device),
        }
        return owners[unit]

    def per_completion(self, values: Float[Tensor, " T"]) -> Float[Tensor, " N"]:
        """Σ over each completion's supervised tokens."""
        return values.new_zeros(self.num_completions).index_add(0, self.completion, values)

    def mean_per_completion(self, values: Float[Tensor, " T"]) -> Float[Tensor, " N"]:
        """The mean over each completion's supervised tokens; 0 where there is none."""
        return self.per_completion(values) / self.lengths.clamp(min=1)

    def per_group(self, values: Float[Tensor, " n"], unit: Unit) -> Float[Tensor, " G"]:
        """Σ over each group's entries of a unit."""
        return values.new_zeros(self.num_groups).index_add(0, self.group_of(unit), values)

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Batch:
        """The same batch on a device, its real-valued columns in `dtype` when one is given."""
        moved: dict[str, object] = {}
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if isinstance(value, Tensor):
                moved[name] = _move(value, device, dtype)
            elif isinstance(value, Picks):
                moved[name] = value.to(device)
            elif isinstance(value, Mapping):
                moved[name] = {key: _move(tensor, device, dtype) for key, tensor in value.items()}
        return replace(self, **moved)


def _move(value: Tensor, device: torch.device | str, dtype: torch.dtype | None) -> Tensor:
    return value.to(device, dtype if dtype is not None and value.is_floating_point() else None)


@dataclass(frozen=True, kw_only=True, eq=False)
class Outputs:
    """What networks said about a batch, at supervised completion tokens only; unasked parts are None."""

    logprobs: Float[Tensor, " T"] | None = None
    "log π(y_t | x, y_<t), temperature applied."
    entropy: Float[Tensor, " T"] | None = None
    "Entropy of the next-token distribution in nats."
    values: Float[Tensor, " T"] | None = None
    "V(s_t): the value of the state before token t."
    rewards: Float[Tensor, " N"] | None = None
    "A reward head's score, read at each completion's last token."
    distributions: Float[Tensor, "T V"] | None = None
    "Full next-token log-probabilities, when asked for."
    listed: Float[Tensor, "T C"] | None = None
    "Log-probabilities [T, k + 1] of k listed ids and, last, of all other ids together."
    listed_ids: Int[Tensor, "T k"] | None = None

    embeddings: Float[Tensor, "N d"] | None = None
    "f(y): each completion read alone, without its prompt."
    prompt_embeddings: Float[Tensor, "G d"] | None = None
    "f(x): each prompt read alone; comes with `embeddings`."

    def merge(self, other: Outputs) -> Outputs:
        """The parts of both; what `other` has wins."""
        given = {n: getattr(other, n) for n in other.__dataclass_fields__ if getattr(other, n) is not None}
        return replace(self, **given)
