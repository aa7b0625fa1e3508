"""Shared-prefix attention over a packed row: exact, without padding to a batch and without a [T, T] mask.

Each completion attends to its prompt and, causally, to itself. The two parts are computed apart and merged by
their log-sum-exps,

    o = Σ_i o_i exp(l_i - l),   l = log Σ_i exp l_i,

and the backward pass of each part with the merged o and l is exact: its probabilities are exp(s - l), and
Σ_j p_j (dp_j) = o · do already speaks of the whole softmax (Dao et al. 2022, the backward of FlashAttention).

`install` registers the function with transformers under the name `trueup`. Models call it in place of their
own attention; outside `attending` it behaves as `sdpa`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from trueup.models.kernels import Rule, Saved
from trueup.models.layout import Layout
from trueup.models.rows import choose

NAME = "trueup"


class NotPackable(Exception):
    """An attention layer asked for something that shared-prefix attention does not compute."""


@dataclass(frozen=True, eq=False)
class Packing:
    """What a forward pass over a packed row needs; `keep` collects each layer's keys and values."""

    layout: Layout
    keep: list[tuple[Tensor, Tensor]] | None = None
    seen: list[int] = field(default_factory=list)
    "How many layers called: zero means the architecture never asks."


class Cache(Protocol):
    """Keys and values of the tokens so far, one entry for each attention layer in call order."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor, rule: Rule) -> Tensor: ...


@dataclass(eq=False)
class Results:
    """What attention gave in a block's first run, for its second run not to compute again."""

    found: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    at: int | None = None
    "Which is next in a second run; None in the first."

    def rewind(self) -> None:
        """None; from here on what was found is given again."""
        self.at = 0

    def of(self, compute: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Output and log-sum-exp: computed and kept in the first run, as they were in the second."""
        if self.at is None:
            out, lse = compute()
            # Detached: a kept result that knew its graph would keep the graph, which keeps the result.
            self.found.append((out.detach(), lse.detach()))
            return out, lse
        self.at += 1
        out, lse = self.found[self.at - 1]
        return out.detach(), lse.detach()


State = Packing | Cache | None
_state: ContextVar[State] = ContextVar("trueup_attention", default=None)
_results: ContextVar[Results | None] = ContextVar("trueup_attention_results", default=None)


def state() -> State:
    """How models attend here and now."""
    return _state.get()


@contextmanager
def keeping(results: Results | None) -> Iterator[None]:
    """Inside, what packed attention gives is kept in `results`, or taken from there."""
    token = _results.set(results)
    try:
        yield
    finally:
        _results.reset(token)


@contextmanager
def attending(state: State) -> Iterator[None]:
    """Inside, models registered under `trueup` attend as `state` says."""
    token = _state.set(state)
    try:
        yield
    finally:
        _state.reset(token)


def install() -> None:
    """Registers the attention and its mask function with transformers; calling it again changes nothing."""
    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, _mask)


def _mask(*args: Any, **kwargs: Any) -> Tensor | None:
    return sdpa_mask(*args, **kwargs) if _state.get() is None else None


REFUSED = ("position_bias", "s_aux", "cache", "block_mask")
"Keyword arguments that change the result in ways not computed here."


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """What transformers calls: query [B, H, L, D], key and value [B, Hkv, L, D]; gives [B, L, H, D]."""
    state = _state.get()
    softcap = kwargs.get("softcap")
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    if state is None:
        if softcap is not None:
            return _plain(query, key, value, attention_mask, scale, softcap), None
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    refused = [name for name in REFUSED if kwargs.get(name) is not None]
    if refused or attention_mask is not None or dropout or kwargs.get("is_causal") is False:
        raise NotPackable(f"its attention uses {', '.join(refused) or 'a mask or dropout of its own'}")
    rule = Rule(scale, softcap, kwargs.get("sliding_window"))
    if not isinstance(state, Packing):
        return state.attend(query, key, value, rule), None
    state.seen.append(1)
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    if state.keep is not None:
        state.keep.append((k, v))
    return shared_prefix(q, k, v, state.layout, rule)[None], None


def _plain(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float, softcap: float) -> Tensor:
    """Soft-capped attention on padded tensors, which sdpa does not offer."""
    repeats = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(repeats, dim=1) for x in (k, v))
    if mask is None:
        mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device)
        mask = mask.tril(k.shape[2] - q.shape[2])
    return capped(q, k, v, mask, scale, softcap).transpose(1, 2)


def capped(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float, softcap: float) -> Tensor:
    """Attention [B, H, L, D] over soft-capped scores; the mask says who is seen, or is added to them."""
    scores = torch.tanh(q @ k.transpose(2, 3) * (scale / softcap)) * softcap
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
    wide = torch.promote_types(q.dtype, torch.float32)
    return torch.softmax(scores, -1, dtype=wide).to(v.dtype) @ v


def shared_prefix(q: Tensor, k: Tensor, v: Tensor, layout: Layout, rule: Rule) -> Tensor:
    """Attention of every row over its prompt and its own earlier tokens, [S, H, D].

    q [S, H, D]; k, v [S, Hkv, D] with H a multiple of Hkv (query head h reads key head h // (H / Hkv)).
    """
    if rule.window is not None and rule.window >= layout.longest:
        rule = Rule(rule.scale, rule.softcap, None)
    result = _SharedPrefix.apply(q, k, v, layout, rule)
    assert isinstance(result, Tensor)
    return result


class _SharedPrefix(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, layout: Layout, rule: Rule) -> Tensor:
        results = _results.get()

        def compute() -> tuple[Tensor, Tensor]:
            return choose(q, k, rule).forward(q, k, v, layout, rule)

        out, lse = compute() if results is None else results.of(compute)
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.layout, ctx.rule = layout, rule
        return out

    @staticmethod
    @once_differentiable
    # torch declares the parameters of every Function's backward as *grad_outputs.
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        saved = Saved(*ctx.saved_tensors)
        kernel = choose(saved.q, saved.k, ctx.rule)
        found = kernel.backward(grad, saved, ctx.layout, ctx.rule)
        return found.q, found.k, found.v, None, None
