"""Shared-prefix attention over a packed row in two calls of torch's fused kernel for ragged sequences.

One call has every segment attend causally to itself, one has the completions of every group attend to their
prompt; whatever the number of groups. The kernels are called below autograd: torch's own wrapper of them,
`varlen_attn`, drops the gradient of the log-sum-exp, by which the two are merged. With the merged output and
log-sum-exp the backward kernel is exact for each part (see `attention`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trueup.models.kernels import Grads, Rule, Saved
from trueup.models.layout import Layout, Ragged


@dataclass(frozen=True)
class Varlen:
    """FlashAttention-2 by cumulative lengths (Dao 2023): rules without window or soft cap."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, layout: Layout, rule: Rule) -> tuple[Tensor, Tensor]:
        """Output [S, H, D] and log-sum-exp [S, H]."""
        own = layout.ragged
        out, lse = _forward(q, k, v, own, own, True, rule.scale)
        if layout.ragged_cross is not None:
            queries, keys = layout.ragged_cross
            assert queries.rows is not None
            o, part = _forward(_of(q, queries), _of(k, keys), _of(v, keys), queries, keys, False, rule.scale)
            merged, total = merge(_of(out, queries), _of(lse, queries), o, part)
            out.index_copy_(0, queries.rows, merged.to(out.dtype))
            lse.index_copy_(0, queries.rows, total)
        return out, lse

    def backward(self, grad: Tensor, saved: Saved, layout: Layout, rule: Rule) -> Grads:
        """The gradients of queries, keys and values, given the merged output and log-sum-exp."""
        own = layout.ragged
        found = Grads(*_backward(grad, saved, own, own, True, rule.scale))
        if layout.ragged_cross is not None:
            queries, keys = layout.ragged_cross
            places = (queries, keys, keys, queries, queries)
            part = Saved(*(_of(x, place) for x, place in zip(saved, places, strict=True)))
            parts = _backward(_of(grad, queries), part, queries, keys, False, rule.scale)
            for total, more, place in zip(found, parts, places[:3], strict=True):
                assert place.rows is not None
                total.index_add_(0, place.rows, more)
        return found


def merge(own: Tensor, own_lse: Tensor, o: Tensor, part: Tensor) -> tuple[Tensor, Tensor]:
    """Attention [..., D] over two sets of keys, and its log-sum-exp, from that over each."""
    total = torch.logaddexp(own_lse, part)
    return own * (own_lse - total).exp().unsqueeze(-1) + o * (part - total).exp().unsqueeze(-1), total


def _of(x: Tensor, place: Ragged) -> Tensor:
    assert place.rows is not None
    return x.index_select(0, place.rows)


def _forward(
    q: Tensor, k: Tensor, v: Tensor, queries: Ragged, keys: Ragged, causal: bool, scale: float
) -> tuple[Tensor, Tensor]:
    ends, longest = (queries.ends, keys.ends), (queries.longest, keys.longest)
    found = torch.ops.aten._flash_attention_forward(q, k, v, *ends, *longest, 0.0, causal, False, scale=scale)
    return found[0], found[1].t().contiguous()


def _backward(
    grad: Tensor, saved: Saved, queries: Ragged, keys: Ragged, causal: bool, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    ends, longest = (queries.ends, keys.ends), (queries.longest, keys.longest)
    q, k, v, out, lse = saved
    # The random state of a dropout that there is not: nothing reads it.
    state = torch.empty(2, dtype=torch.uint64, device=q.device)
    return torch.ops.aten._flash_attention_backward(
        *(grad.contiguous(), q, k, v, out, lse.t().contiguous(), *ends, *longest),
        *(0.0, causal, state, torch.empty(0, device=q.device)),
        scale=scale,
    )
