"""Two ways to compute a piece of attention and its gradient, with the log-sum-exp that merges pieces.

`Flash` uses torch's CPU flash attention. `Blocks` is plain torch, a block of queries at a time: it serves
soft capping, sliding windows and other devices. Both recompute the probabilities in the backward pass. `rows`
chooses one of them, or the fused kernel of `varlen`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from trueup.models.layout import Piece

BLOCK_ELEMENTS = 1 << 21
"Scores that `Blocks` holds at once: 8 MiB in float32."
NARROWEST = 64
"Fewest queries worth a block of their own, however narrow the sliding window."


@dataclass(frozen=True)
class Rule:
    """How scores are made: s = cap·tanh(scale·q·k / cap), seen from at most `window` positions away."""

    scale: float
    softcap: float | None = None
    window: int | None = None


class Grads(NamedTuple):
    """Gradients with respect to queries, keys and values."""

    q: Tensor
    k: Tensor
    v: Tensor


class Saved(NamedTuple):
    """What a backward pass needs of the forward one: its inputs, and the merged result of all pieces."""

    q: Tensor
    k: Tensor
    v: Tensor
    out: Tensor
    lse: Tensor


class Kernel(Protocol):
    """q [B, H, Lq, D], k and v [B, Hkv, Lk, D] to (o [B, H, Lq, D], log-sum-exp [B, H, Lq]), and back."""

    def forward(self, piece: Piece, q: Tensor, k: Tensor, v: Tensor, rule: Rule) -> tuple[Tensor, Tensor]: ...

    def backward(self, piece: Piece, grad: Tensor, saved: Saved, rule: Rule) -> Grads: ...


@dataclass(frozen=True)
class Flash:
    """torch's CPU flash attention, called below autograd for its log-sum-exp."""

    def forward(self, piece: Piece, q: Tensor, k: Tensor, v: Tensor, rule: Rule) -> tuple[Tensor, Tensor]:
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            q, k, v, 0.0, piece.causal, attn_mask=_bias(piece, q), scale=rule.scale
        )
        return out, lse

    def backward(self, piece: Piece, grad: Tensor, saved: Saved, rule: Rule) -> Grads:
        return Grads(
            *torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
                grad, *saved, 0.0, piece.causal, attn_mask=_bias(piece, saved.q), scale=rule.scale
            )
        )


def _bias(piece: Piece, q: Tensor) -> Tensor | None:
    if piece.key_mask is None:
        return None
    bias = torch.zeros(piece.key_mask.shape, dtype=q.dtype, device=q.device)
    return bias.masked_fill_(~piece.key_mask, float("-inf"))[:, None, None, :]


@dataclass(frozen=True)
class Blocks:
    """Plain torch, as many queries at a time as keep the scores within `BLOCK_ELEMENTS`."""

    def forward(self, piece: Piece, q: Tensor, k: Tensor, v: Tensor, rule: Rule) -> tuple[Tensor, Tensor]:
        out = torch.empty_like(q)
        wide = torch.promote_types(q.dtype, torch.float32)
        lse = torch.empty(q.shape[:3], dtype=wide, device=q.device)
        k, v = _repeat(k, q), _repeat(v, q)
        for rows, keys in _steps(piece, q, rule):
            scores = _scores(piece, q, k, rows, keys, rule)[0]
            top = scores.amax(-1, keepdim=True).clamp_min(torch.finfo(wide).min)
            weights = (scores - top).exp_()
            total = weights.sum(-1, keepdim=True)
            # A query whose window holds none of these keys gets weight zero: o = 0, log-sum-exp = -inf.
            weights = weights / total.clamp_min(torch.finfo(wide).tiny)
            out[:, :, rows] = weights.to(v.dtype) @ v[:, :, keys]
            lse[:, :, rows] = (top + total.log()).squeeze(-1)
        return out, lse

    def backward(self, piece: Piece, grad: Tensor, saved: Saved, rule: Rule) -> Grads:
        q, k, v, out, lse = saved
        repeated_k, repeated_v = _repeat(k, q), _repeat(v, q)
        dq = torch.empty_like(q)
        dk, dv = torch.zeros_like(repeated_k), torch.zeros_like(repeated_v)
        delta = (grad.to(lse.dtype) * out).sum(-1, keepdim=True)
        for rows, keys in _steps(piece, q, rule):
            scores, slope = _scores(piece, q, repeated_k, rows, keys, rule)
            weights = (scores - lse[:, :, rows, None]).exp_()
            above = grad[:, :, rows]
            dv[:, :, keys] += weights.to(v.dtype).transpose(2, 3) @ above
            dweights = (above @ repeated_v[:, :, keys].transpose(2, 3)).to(lse.dtype)
            dscores = weights.mul_(dweights - delta[:, :, rows])
            if slope is not None:
                dscores = dscores * slope
            dscores = (dscores * rule.scale).to(q.dtype)
            dq[:, :, rows] = dscores @ repeated_k[:, :, keys]
            dk[:, :, keys] += dscores.transpose(2, 3) @ q[:, :, rows]
        return Grads(dq, _unrepeat(dk, k), _unrepeat(dv, v))


def _repeat(x: Tensor, q: Tensor) -> Tensor:
    return x if x.shape[1] == q.shape[1] else x.repeat_interleave(q.shape[1] // x.shape[1], dim=1)


def _unrepeat(grad: Tensor, x: Tensor) -> Tensor:
    return grad if grad.shape == x.shape else grad.unflatten(1, (x.shape[1], -1)).sum(2)


def _steps(piece: Piece, q: Tensor, rule: Rule) -> list[tuple[slice, slice]]:
    """Blocks of queries with the range of keys that any of them may see."""
    b, h, num_queries, _ = q.shape
    num_keys = piece.keys.shape[1]
    window = num_keys + num_queries if rule.window is None else rule.window
    # Of a prompt, a window reaches back from its end at most; of a segment, from the block's first query.
    floor = 0 if piece.causal else max(0, piece.shortest - window + 1)
    most = min(num_queries, max(window, NARROWEST)) if piece.causal else num_queries
    seen = min(num_keys, most + window) if piece.causal else num_keys - floor
    size = max(1, min(most, BLOCK_ELEMENTS // max(1, b * h * seen)))
    steps = []
    for start in range(0, num_queries, size):
        stop = min(num_queries, start + size)
        first, last = (max(0, start - window + 1), stop) if piece.causal else (floor, num_keys)
        steps.append((slice(start, stop), slice(first, last)))
    return steps


def _scores(
    piece: Piece, q: Tensor, k: Tensor, rows: slice, keys: slice, rule: Rule
) -> tuple[Tensor, Tensor | None]:
    """Masked scores of a block, wide, and dscore/d(scale·q·k) where soft capping makes it differ from 1."""
    wide = torch.promote_types(q.dtype, torch.float32)
    scores = (q[:, :, rows] @ k[:, :, keys].transpose(2, 3)).to(wide).mul_(rule.scale)
    slope = None
    if rule.softcap is not None:
        bent = torch.tanh(scores / rule.softcap)
        scores, slope = bent * rule.softcap, 1 - bent * bent
    distance = piece.query_positions[:, rows, None] - piece.key_positions[:, None, keys]
    hidden = distance < 0 if piece.causal else torch.zeros_like(distance, dtype=torch.bool)
    if rule.window is not None:
        hidden = hidden | (distance >= rule.window)
    if piece.key_mask is not None:
        hidden = hidden | ~piece.key_mask[:, None, keys]
    return scores.masked_fill(hidden[:, None], float("-inf")), slope
