"""Batch: the tensor view of some encoded groups, built by `pack`, never stored.

All tokens of all groups lie in one flat row without padding. The prompt of a group is laid out once and its
K completions follow it; each completion attends to its prompt and to itself, to nothing else:

    row        p p p p  a a a  b b  |  q q q  c c c c
    positions  0 1 2 3  4 5 6  4 5  |  0 1 2  3 4 5 6
    group      -------- 0 --------  |  ----- 1 -----

Legend for shapes: S tokens in the row, T supervised completion tokens, N completions, P pairs, G groups.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from trueup.groups import Completion, Group

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
    columns: Mapping[str, Float[Tensor, " T"]] = field(default_factory=dict)
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

    def count(self, unit: Unit) -> int:
        """How many loss entries of a unit this batch holds; the loop divides by the whole minibatch's."""
        sizes = {
            "token": self.targets.shape[0],
            "completion": self.num_completions,
            "pair": self.pairs.shape[0],
            "group": self.num_groups,
        }
        return sizes[unit]

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

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Batch:
        """The same batch on a device, its real-valued columns in `dtype` when one is given."""
        moved: dict[str, object] = {}
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if isinstance(value, Tensor):
                moved[name] = _move(value, device, dtype)
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
    "Entropy of the next-token distribution in nats, no gradient."
    values: Float[Tensor, " T"] | None = None
    "V(s_t): the value of the state before token t."
    rewards: Float[Tensor, " N"] | None = None
    "A reward head's score, read at each completion's last token."
    distributions: Float[Tensor, "T V"] | None = None
    "Full next-token log-probabilities, when asked for."

    def merge(self, other: Outputs) -> Outputs:
        """The parts of both; what `other` has wins."""
        given = {n: getattr(other, n) for n in other.__dataclass_fields__ if getattr(other, n) is not None}
        return replace(self, **given)


def pack(groups: Sequence[Group]) -> Batch:
    """The batch of some encoded groups, on the CPU, in the order given.

    Per-token columns and per-completion marks that every completion carries become float64 tensors; a
    network's caller moves them to its own precision with `Batch.to`.
    """
    rows: list[np.ndarray] = []
    positions: list[np.ndarray] = []
    spans: list[Span] = []
    at, targets, owner, group_of, last = [], [], [], [], []
    pairs: list[tuple[int, int, float, float, int]] = []
    start = 0
    for g, group in enumerate(groups):
        assert group.prompt_tokens is not None, "encode the group first"
        first_completion = len(group_of)
        prompt = (start, len(group.prompt_tokens))
        rows.append(group.prompt_tokens)
        positions.append(np.arange(prompt[1]))
        start += prompt[1]
        places = []
        for completion in group.completions:
            tokens = completion.tokens
            assert tokens is not None and len(tokens) > 0, "encode the group first; completions have tokens"
            previous = np.arange(start - 1, start - 1 + len(tokens))
            previous[0] = prompt[0] + prompt[1] - 1
            chosen = slice(None) if completion.supervised is None else completion.supervised
            at.append(previous[chosen])
            targets.append(tokens[chosen])
            owner.append(np.full(len(targets[-1]), len(group_of)))
            places.append((start, len(tokens)))
            rows.append(tokens)
            positions.append(np.arange(prompt[1], prompt[1] + len(tokens)))
            start += len(tokens)
            last.append(start - 1)
            group_of.append(g)
        spans.append(Span(prompt, tuple(places)))
        for pair in group.pairs():
            entry = (first_completion + pair.chosen, first_completion + pair.rejected)
            pairs.append((*entry, pair.label, pair.strength, g))
    completions = [c for group in groups for c in group.completions]
    return Batch(
        tokens=_integers(rows),
        positions=_integers(positions),
        spans=tuple(spans),
        at=_integers(at),
        targets=_integers(targets),
        completion=_integers(owner),
        group=torch.tensor(group_of, dtype=torch.int64),
        last=torch.tensor(last, dtype=torch.int64),
        pairs=torch.tensor([p[:2] for p in pairs], dtype=torch.int64).reshape(-1, 2),
        labels=torch.tensor([p[2] for p in pairs], dtype=torch.float64),
        strengths=torch.tensor([p[3] for p in pairs], dtype=torch.float64),
        pair_group=torch.tensor([p[4] for p in pairs], dtype=torch.int64),
        columns=_columns(completions),
        marks=_marks(completions),
    )


def _integers(parts: Sequence[np.ndarray]) -> Tensor:
    if not parts:
        return torch.zeros(0, dtype=torch.int64)
    return torch.from_numpy(np.concatenate(parts).astype(np.int64))


def _columns(completions: Sequence[Completion]) -> dict[str, Tensor]:
    """Columns that every completion carries, float64, in supervised-token order."""
    if not completions:
        return {}
    names = [n for n in completions[0].columns if all(n in c.columns for c in completions)]
    return {
        name: torch.from_numpy(np.concatenate([np.asarray(c.columns[name], np.float64) for c in completions]))
        for name in names
    }


def _marks(completions: Sequence[Completion]) -> dict[str, Tensor]:
    if not completions:
        return {}
    names = [n for n in completions[0].marks if all(n in c.marks for c in completions)]
    return {n: torch.tensor([c.marks[n] for c in completions], dtype=torch.float64) for n in names}


def num_row_tokens(group: Group) -> int:
    """How many tokens a group adds to the row: its prompt once, plus every completion."""
    assert group.prompt_tokens is not None, "encode the group first"
    return len(group.prompt_tokens) + sum(len(c.tokens) for c in group.completions if c.tokens is not None)


def split(groups: Sequence[Group], max_tokens: int) -> Iterator[list[Group]]:
    """Consecutive runs of groups of at most `max_tokens` row tokens each; a larger group stands alone."""
    run: list[Group] = []
    size = 0
    for group in groups:
        tokens = num_row_tokens(group)
        if run and size + tokens > max_tokens:
            yield run
            run, size = [], 0
        run.append(group)
        size += tokens
    if run:
        yield run


def count(groups: Iterable[Group]) -> dict[Unit, int]:
    """Loss entries by unit over groups, without building tensors: what the loop divides by."""
    total: dict[Unit, int] = dict.fromkeys(UNITS, 0)
    for group in groups:
        total["group"] += 1
        total["completion"] += len(group.completions)
        total["pair"] += len(group.pairs())
        total["token"] += sum(c.num_supervised for c in group.completions)
    return total


def spread(groups: Sequence[Group], **columns: Tensor) -> list[Group]:
    """The groups with per-token tensors [T], in `pack`'s order, written back as columns."""
    arrays = {name: tensor.detach().cpu().double().numpy() for name, tensor in columns.items()}
    position = 0
    out = []
    for group in groups:
        completions = []
        for completion in group.completions:
            end = position + completion.num_supervised
            completions.append(completion.with_columns(**{n: a[position:end] for n, a in arrays.items()}))
            position = end
        out.append(group.with_completions(completions))
    return out
