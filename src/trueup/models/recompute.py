"""Activation checkpointing: what a block computes in the forward pass is computed again in the backward pass.

A block then keeps its input alone, [S, d], until its gradient is asked for (Chen et al. 2016). `block` runs
all of it again, `selective` all but packed attention, whose result it keeps beside the input: of all parts
attention alone takes work that grows with the square of a sequence's length. On the padded path both are the
same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any, Literal, final

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from trueup.errors import TrueupError
from trueup.models import attention

Policy = Literal["none", "block", "selective"]
Inside = Callable[[], AbstractContextManager[Any]]


def blocks_of(body: nn.Module) -> list[nn.Module]:
    """The body's outermost layers that may be run again. Raises E507 for an architecture that has none."""
    found = list(_outermost(body))
    if not found:
        raise TrueupError(
            "E507",
            f"{type(body).__name__} has no blocks that can be run again in the backward pass",
            where="model.activation_checkpointing",
            remedy="--model.activation_checkpointing none, with fewer --loop.microbatch_tokens",
        )
    return found


def _outermost(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        if isinstance(child, GradientCheckpointingLayer):
            yield child
        else:
            yield from _outermost(child)


@contextmanager
def checkpointing(body: nn.Module, policy: Policy, inside: Inside) -> Iterator[None]:
    """Inside, blocks that take a gradient keep their inputs alone; the modules are as before afterwards.

    The backward pass comes later, outside of everything: it runs a block again within `inside()`, attending
    as it did then.
    """
    if policy == "none" or not torch.is_grad_enabled():
        yield
        return
    blocks = blocks_of(body)
    before = [vars(block).get("forward") for block in blocks]
    for block in blocks:
        block.forward = partial(_once, block.forward, policy, inside, block.training)
    try:
        yield
    finally:
        for block, own in zip(blocks, before, strict=True):
            del block.forward
            if own is not None:
                block.forward = own


def _once(forward: Any, policy: Policy, inside: Inside, draws: bool, *args: Any, **kwargs: Any) -> Any:
    """The block's output; `draws` says that it has dropout, which must fall on the same entries again."""

    def contexts() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
        results = attention.Results() if policy == "selective" else None
        return attention.keeping(results), _Again(inside, attention.state(), results)

    return checkpoint(
        forward, *args, use_reentrant=False, preserve_rng_state=draws, context_fn=contexts, **kwargs
    )


@final
class _Again:
    """What a block's second run stands in; it may be entered again, for a second backward pass."""

    def __init__(self, inside: Inside, state: attention.State, results: attention.Results | None) -> None:
        self._inside, self._state, self._results = inside, state, results
        self._entered = ExitStack()

    def __enter__(self) -> None:
        with ExitStack() as stack:
            stack.enter_context(self._inside())
            stack.enter_context(attention.attending(self._state))
            if self._results is not None:
                self._results.rewind()
            stack.enter_context(attention.keeping(self._results))
            self._entered = stack.pop_all()

    def __exit__(self, *error: Any) -> None:
        self._entered.__exit__(*error)
