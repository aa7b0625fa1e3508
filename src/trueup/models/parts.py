"""How a network is called, and read, of which each rank may hold a part (`sharding`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


def is_in_parts(module: nn.Module) -> bool:
    """Whether `fully_shard` has been here, asked without importing it."""
    return hasattr(module, "set_reshard_after_forward")


def called(module: nn.Module, work: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """What `work` returns, done with the root's own weights whole where the module is sharded."""
    return module(work) if is_in_parts(module) else work()


@contextmanager
def whole(module: nn.Module) -> Iterator[None]:
    """Inside, every rank holds all of the module's weights, to read, and exchanges nothing."""
    parts: list[Any] = [part for part in module.modules() if is_in_parts(part)]
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.reshard()
            part.set_reshard_after_forward(True, recurse=False)
