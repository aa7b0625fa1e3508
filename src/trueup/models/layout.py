"""Where the queries and keys of a packed row lie, worked out once for a batch and used by every layer.

A row is cut into pieces that an attention kernel can take: *own* pieces, in which segments attend causally
to themselves, and *cross* pieces, in which the completions of a group attend to their prompt. A group of one
completion is a single causal segment. Segments of like length share a piece: they are padded to its longest
by repeating their last row, so padding never exceeds a fixed share of the tokens and memory stays linear.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from trueup.engine.batch import Batch
from trueup.errors import TrueupError

Segment = tuple[int, int]
SHARE = 0.75
"Segments at least this share of the longest in a piece join it,"
SLACK = 12
"and so do segments at most this many tokens shorter: for short ones a call costs more than padding."


@dataclass(frozen=True, eq=False)
class Rows:
    """B segments of a row, padded to L rows each by repeating their last row."""

    shape: tuple[int, int]
    start: int | None
    "First row when the segments follow each other without padding: no gather is needed."
    index: Tensor
    "Row of each slot [B*L]."
    real: Tensor | None
    "Slots that are not padding; None when all are."
    rows: Tensor
    "Rows of the slots that are not padding."

    def take(self, x: Tensor) -> Tensor:
        """x's rows [S, ...] as segments [B, L, ...], padding filled with a segment's last row."""
        b, length = self.shape
        if self.start is not None:
            return x.narrow(0, self.start, b * length).unflatten(0, (b, length))
        return x.index_select(0, self.index).unflatten(0, (b, length))

    def take_or_zero(self, x: Tensor) -> Tensor:
        """x's rows as segments, padding filled with zeros: what a gradient needs."""
        if self.real is None:
            return self.take(x)
        b, length = self.shape
        out = x.new_zeros((b * length, *x.shape[1:]))
        out.index_copy_(0, self.real, x.index_select(0, self.rows))
        return out.unflatten(0, (b, length))

    def put(self, out: Tensor, value: Tensor) -> None:
        """Writes segments [B, L, ...] into out's rows, padding left out."""
        if self.start is not None:
            b, length = self.shape
            out.narrow(0, self.start, b * length).unflatten(0, (b, length)).copy_(value)
        else:
            out.index_copy_(0, self.rows, self._real(value))

    def add(self, out: Tensor, value: Tensor) -> None:
        """Adds segments [B, L, ...] to out's rows, padding left out."""
        out.index_add_(0, self.rows, self._real(value))

    def _real(self, value: Tensor) -> Tensor:
        flat = value.reshape(-1, *value.shape[2:])
        return flat if self.real is None else flat.index_select(0, self.real)


@dataclass(frozen=True, eq=False)
class Piece:
    """One kernel call: B blocks of queries against B blocks of keys."""

    queries: Rows
    keys: Rows
    causal: bool
    "Whether a block attends to itself causally; otherwise its keys all precede its queries."
    query_positions: Tensor
    "[B, Lq]; a token's place in its own sequence."
    key_positions: Tensor
    "[B, Lk]"
    key_mask: Tensor | None
    "[B, Lk], True where a key is real; None when all are or when causality hides the padding."
    shortest: int
    "Fewest real keys of any block: every query of a cross piece comes after that many."


class Ragged(NamedTuple):
    """Sequences of several lengths end to end, as fused kernels read them."""

    rows: Tensor | None
    "Which rows of the packed row they are; None when all, in order."
    ends: Tensor
    "Cumulative lengths, from 0: int32 [B + 1]."
    longest: int


@dataclass(frozen=True, eq=False)
class Layout:
    """A row's segments, each attending causally to itself, and which of them attend to a prompt as well.

    As pieces every row is a query in exactly one own piece and at most one cross piece. Pieces and ragged
    sequences are made when they are first asked for: a device needs one kind or the other.
    """

    segments: tuple[Segment, ...]
    "First row and number of rows, in the order of the row, which they tile."
    crossing: tuple[tuple[Segment, Segment], ...]
    "The rows of all completions of a group, and those of their prompt."
    positions: np.ndarray
    "A token's place in its own sequence."
    longest: int
    "The longest sequence, prompt and completion together."
    device: torch.device

    @cached_property
    def own(self) -> tuple[Piece, ...]:
        """Segments of like length together."""
        return tuple(_own(part, self.positions, self.device) for part in _buckets(self.segments))

    @cached_property
    def cross(self) -> tuple[Piece, ...]:
        """Groups whose prompts and whose completions are of like length together."""
        found: list[Piece] = []
        queries_of = {prompt: queries for queries, prompt in self.crossing}
        for similar in _buckets([prompt for _, prompt in self.crossing]):
            for part in _buckets([queries_of[prompt] for prompt in similar]):
                wanted = set(part)
                pairs = [(q, p) for q, p in self.crossing if q in wanted]
                found.append(_cross(pairs, self.positions, self.device))
        return tuple(found)

    @cached_property
    def ragged(self) -> Ragged:
        """All segments, which attend to themselves."""
        return _ragged(self.segments, None, self.device)

    @cached_property
    def ragged_cross(self) -> tuple[Ragged, Ragged] | None:
        """The queries of completions and the keys of their prompts, a sequence for each group."""
        if not self.crossing:
            return None
        queries, keys = zip(*self.crossing, strict=True)
        rows = [np.concatenate([np.arange(a, a + n) for a, n in part]) for part in (queries, keys)]
        return _ragged(queries, rows[0], self.device), _ragged(keys, rows[1], self.device)


_layouts: WeakKeyDictionary[Batch, Layout] = WeakKeyDictionary()


def layout_of(batch: Batch) -> Layout:
    """The batch's layout, built on the first call and kept as long as the batch."""
    found = _layouts.get(batch)
    if found is None:
        found = _layouts[batch] = build(batch)
    return found


def build(batch: Batch) -> Layout:
    """The layout of a batch. Raises E503 when a prompt is empty: nothing would predict the first token."""
    segments: list[Segment] = []
    crossing: list[tuple[Segment, Segment]] = []
    # From the spans, not from the batch's own tensor: reading that would make the host wait for the device.
    positions = np.zeros(len(batch.tokens), np.int64)
    longest = 0
    for number, span in enumerate(batch.spans):
        start, length = span.prompt
        if length < 1:
            raise TrueupError(
                "E503",
                "a prompt has no tokens, so nothing predicts the first token of its completions",
                where=f"group {number} of a batch",
                remedy="begin it with the tokenizer's begin-of-text or end-of-text token",
            )
        lengths = [n for _, n in span.completions]
        longest = max(longest, length + max(lengths, default=0))
        positions[start : start + length] = np.arange(length)
        for first, size in span.completions:
            positions[first : first + size] = np.arange(length, length + size)
        if len(lengths) <= 1:
            segments.append((start, length + sum(lengths)))
        else:
            segments.append(span.prompt)
            segments.extend(span.completions)
            crossing.append(((span.completions[0][0], sum(lengths)), span.prompt))
    return Layout(tuple(segments), tuple(crossing), positions, longest, batch.tokens.device)


def _ragged(segments: Sequence[Segment], rows: np.ndarray | None, device: torch.device) -> Ragged:
    lengths = [n for _, n in segments]
    ends = torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32).to(device)
    return Ragged(None if rows is None else torch.from_numpy(rows).to(device), ends, max(lengths))


def _buckets(segments: Sequence[Segment]) -> list[list[Segment]]:
    """The segments, longest first, in runs of like length; each run in row order."""
    runs: list[list[Segment]] = []
    longest = 0
    for segment in sorted(segments, key=lambda s: (-s[1], s[0])):
        if runs and (segment[1] >= SHARE * longest or longest - segment[1] <= SLACK):
            runs[-1].append(segment)
        else:
            runs.append([segment])
            longest = segment[1]
    return [sorted(run) for run in runs]


def _slots(segments: Sequence[Segment]) -> tuple[np.ndarray, np.ndarray]:
    """Row of every slot [B, L] and whether the slot is real [B, L]."""
    starts = np.array([s for s, _ in segments])[:, None]
    lengths = np.array([n for _, n in segments])[:, None]
    column = np.arange(lengths.max())[None, :]
    return starts + np.minimum(column, lengths - 1), column < lengths


def _rows(slots: np.ndarray, real: np.ndarray, device: torch.device) -> Rows:
    flat = slots.reshape(-1)
    whole = bool(real.all())
    places = np.flatnonzero(real.reshape(-1))
    follows = whole and bool((np.diff(flat) == 1).all())
    index = torch.from_numpy(flat).to(device)
    return Rows(
        shape=(slots.shape[0], slots.shape[1]),
        start=int(flat[0]) if follows else None,
        index=index,
        real=None if whole else torch.from_numpy(places).to(device),
        rows=index if whole else torch.from_numpy(flat[places]).to(device),
    )


def _own(segments: Sequence[Segment], positions: np.ndarray, device: torch.device) -> Piece:
    slots, real = _slots(segments)
    rows = _rows(slots, real, device)
    # Padding continues the count, so that causality hides it from every real query.
    place = positions[slots[:, :1]] + np.arange(slots.shape[1])[None, :]
    where = torch.from_numpy(place).to(device)
    return Piece(rows, rows, True, where, where, None, 0)


def _cross(pairs: Sequence[tuple[Segment, Segment]], positions: np.ndarray, device: torch.device) -> Piece:
    query_slots, query_real = _slots([q for q, _ in pairs])
    key_slots, key_real = _slots([k for _, k in pairs])
    return Piece(
        queries=_rows(query_slots, query_real, device),
        keys=_rows(key_slots, key_real, device),
        causal=False,
        query_positions=torch.from_numpy(positions[query_slots]).to(device),
        key_positions=torch.from_numpy(positions[key_slots]).to(device),
        key_mask=None if key_real.all() else torch.from_numpy(key_real).to(device),
        shortest=int(key_real.sum(1).min()),
    )
