"""From encoded groups to batches and back: pack, split by tokens, count, and write columns back.

A batch is one flat row of all tokens without padding; `batch` has the picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from trueup.engine.batch import UNITS, Batch, Span, Unit
from trueup.engine.groups import Completion, Group


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
    return {name: torch.from_numpy(_joined([c.columns[name] for c in completions])) for name in names}


def _joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    """The parts one after another; one of no tokens that has forgotten how wide its rows are adds none."""
    wide = [np.asarray(part, np.float64) for part in parts if len(part)]
    return np.concatenate(wide or [np.asarray(part, np.float64) for part in parts])


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
