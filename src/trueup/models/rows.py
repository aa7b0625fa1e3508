"""Which kernel attends over a packed row: the fused one where the device has it and it agrees, or pieces."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from trueup.engine.groups import Completion, Group
from trueup.engine.packing import pack
from trueup.models.kernels import Blocks, Flash, Grads, Kernel, Rule, Saved
from trueup.models.layout import Layout, Piece, build
from trueup.models.varlen import Varlen, merge

FUSED: Mapping[str, tuple[torch.dtype, ...]] = {"cuda": (torch.bfloat16, torch.float16)}
"By kind of device, the precisions in which torch has a fused kernel for ragged sequences."
SMALLEST, WIDEST = 8, 256
"Its heads have a multiple of so many entries, and at most so many."
logger = logging.getLogger("trueup")


class RowKernel(Protocol):
    """Attention over a packed row: q [S, H, D], k and v [S, Hkv, D]; o [S, H, D], log-sum-exp [S, H]."""

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, layout: Layout, rule: Rule
    ) -> tuple[Tensor, Tensor]: ...

    def backward(self, grad: Tensor, saved: Saved, layout: Layout, rule: Rule) -> Grads: ...


def choose(q: Tensor, k: Tensor, rule: Rule) -> RowKernel:
    """The fastest kernel that computes the rule on the query's device, and agrees there with plain torch."""
    found = kernel_of(rule, q.device.type, q.dtype, q.shape[2])
    if isinstance(found, Varlen) and not agrees(str(q.device), q.dtype, q.shape[1], k.shape[1], q.shape[2]):
        return kernel_of(rule, q.device.type, q.dtype, q.shape[2], fused=False)
    return found


def kernel_of(rule: Rule, device: str, dtype: torch.dtype, size: int, *, fused: bool = True) -> RowKernel:
    """The fastest kernel that should compute the rule on a kind of device, for heads of so many entries."""
    plain = rule.softcap is None and rule.window is None
    if fused and plain and dtype in FUSED.get(device, ()) and size % SMALLEST == 0 and size <= WIDEST:
        return Varlen()
    return ByPiece(Flash() if plain and device == "cpu" else Blocks())


@dataclass(frozen=True)
class ByPiece:
    """Segments of like length at a time, padded to the longest of them."""

    kernel: Kernel

    def forward(self, q: Tensor, k: Tensor, v: Tensor, layout: Layout, rule: Rule) -> tuple[Tensor, Tensor]:
        """Output and log-sum-exp, all pieces merged."""
        out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
        lse = q.new_empty(q.shape[:2], dtype=torch.promote_types(q.dtype, torch.float32))
        for piece in (*layout.own, *layout.cross):
            o, part = self.kernel.forward(piece, *_blocks(piece, q, k, v), rule)
            o, part = o.transpose(1, 2), part.transpose(1, 2)
            if not piece.causal:
                o, part = merge(piece.queries.take(out), piece.queries.take(lse), o, part)
            piece.queries.put(out, o.to(out.dtype))
            piece.queries.put(lse, part)
        return out, lse

    def backward(self, grad: Tensor, saved: Saved, layout: Layout, rule: Rule) -> Grads:
        """The gradients of queries, keys and values, given the merged output and log-sum-exp."""
        q, k, v, out, lse = saved
        found = Grads(*(torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q, k, v)))
        for piece in (*layout.own, *layout.cross):
            rows = piece.queries
            merged = rows.take(out).transpose(1, 2), rows.take(lse).transpose(1, 2)
            mine = Saved(*_blocks(piece, q, k, v), *merged)
            parts = self.kernel.backward(piece, rows.take_or_zero(grad).transpose(1, 2), mine, rule)
            for total, part, place in zip(found, parts, (rows, piece.keys, piece.keys), strict=True):
                # Every row is written by its own piece first; cross pieces come after and add.
                (place.put if piece.causal else place.add)(total, part.transpose(1, 2))
        return found


def _blocks(piece: Piece, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return (
        piece.queries.take(q).transpose(1, 2),
        piece.keys.take(k).transpose(1, 2),
        piece.keys.take(v).transpose(1, 2),
    )


@cache
def agrees(device: str, dtype: torch.dtype, heads: int, kv_heads: int, size: int) -> bool:
    """Whether the fused kernel gives what `Blocks` gives on a small row, value and gradient.

    Asked once for each shape of heads; where it does not, or fails, a warning says that `Blocks` serves.
    """
    fault = _disagreement(torch.device(device), dtype, heads, kv_heads, size)
    if fault:
        logger.warning("attention on %s is plain torch, not the fused kernel, which %s", device, fault)
    return not fault


def _disagreement(device: torch.device, dtype: torch.dtype, heads: int, kv_heads: int, size: int) -> str:
    """Why the fused kernel is not to be used; empty when nothing speaks against it."""
    layout = _small_row(device)
    draws = torch.Generator().manual_seed(0)
    shapes = [(len(layout.positions), h, size) for h in (heads, kv_heads, kv_heads, heads)]
    drawn = [torch.randn(shape, generator=draws).to(device, dtype) for shape in shapes]
    rule = Rule(size**-0.5)
    try:
        found = _both_ways(Varlen(), drawn, layout, rule)
    except (RuntimeError, TypeError) as error:
        return f"fails: {str(error).splitlines()[0][:160]}"
    wide = torch.promote_types(dtype, torch.float32)
    expected = _both_ways(ByPiece(Blocks()), [x.to(wide) for x in drawn], layout, rule)
    for mine, theirs in zip(found, expected, strict=True):
        gap = float((mine.to(wide) - theirs).abs().max() / theirs.abs().max())
        if not gap <= max(8 * torch.finfo(dtype).eps, 1e-12):
            return f"differs from it by {gap:.1g} of the largest entry on a small row"
    return ""


def _both_ways(kernel: RowKernel, drawn: list[Tensor], layout: Layout, rule: Rule) -> list[Tensor]:
    q, k, v, grad = drawn
    out, lse = kernel.forward(q, k, v, layout, rule)
    return [out, lse, *kernel.backward(grad, Saved(q, k, v, out, lse), layout, rule)]


def _small_row(device: torch.device) -> Layout:
    """Groups of 3, 1 and 2 completions of several lengths."""
    lengths = ((33, (5, 1, 70)), (4, (9,)), (129, (16, 31)))
    ids = [np.zeros(n, np.int32) for n in range(256)]
    groups = [
        Group(
            prompt=(),
            prompt_tokens=ids[prompt],
            completions=tuple(Completion(text="", tokens=ids[n]) for n in completions),
        )
        for prompt, completions in lengths
    ]
    return build(pack(groups).to(device))
