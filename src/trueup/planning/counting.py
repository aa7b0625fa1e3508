"""Memory that a computation would hold, counted on tensors that have shapes and no storage.

A run's own code runs on torch's device `meta`: nothing is allocated, no weight is read, and every result has
the size and the lifetime that it has on a device. A dispatch mode sees each operation and follows the
storages that it makes until the last tensor over them is gone. Indices stay real, so that the code
which cuts batches and lays out attention decides as it does in a run.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.flop_counter import flop_registry

from trueup.models import attention, kernels, rows

PRODUCTS = {**flop_registry, torch.ops.aten.addmm_: flop_registry[torch.ops.aten.addmm]}
"What counts the operations of a product, by the operation; torch leaves out the one that works in place."


@final
@dataclass(kw_only=True, eq=False)
class Live:
    """Bytes held now, and the most that were held at once since `mark`."""

    now: int = 0
    peak: int = 0
    flops: int = 0
    "Operations of matrix products since `mark`, a multiplication and an addition two."
    known: weakref.WeakKeyDictionary[Any, int] = field(default_factory=weakref.WeakKeyDictionary)

    def mark(self) -> None:
        """Nothing; from here on peak and operations are counted anew."""
        self.peak, self.flops = self.now, 0

    def follow(self, tensor: Tensor) -> None:
        """Nothing; the tensor's storage counts until the last tensor over it is gone."""
        storage = tensor.untyped_storage()
        if storage in self.known:
            return
        size = storage.nbytes()
        self.known[storage] = size
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._gone, size)

    def leave_out(self, tensors: Iterable[Tensor]) -> None:
        """Nothing; what lies in these tensors was there before, and is not counted."""
        for tensor in tensors:
            self.known[tensor.untyped_storage()] = 0

    def _gone(self, size: int) -> None:
        self.now -= size


@contextmanager
def counting(device: str, before: Iterable[Tensor] = ()) -> Iterator[Live]:
    """Inside, memory that operations on `meta` would hold on a kind of device: `cpu`, `cuda`.

    Tensors `before` are left out. A real tensor beside one on `meta` counts as on `meta`. What is asked of a
    number that nobody has computed is answered with 1.
    """
    live = Live()
    live.leave_out(before)
    with _as_on(torch.device(device)), _Follow(live):
        yield live


class _Follow(TorchDispatchMode):
    def __init__(self, live: Live) -> None:
        super().__init__()
        self._live = live

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if any(tensor.is_meta for tensor in given):
            if func is torch.ops.aten._local_scalar_dense.default:
                return 1
            if func is torch.ops.aten._to_copy.default and kwargs.get("device") == torch.device("cpu"):
                return torch.ones(args[0].shape, dtype=args[0].dtype)  # several numbers, read at once
            if not all(tensor.is_meta for tensor in given):
                args = tree_map_only(Tensor, _shape_of, args)
                kwargs = {name: tree_map_only(Tensor, _shape_of, value) for name, value in kwargs.items()}
        out = func(*args, **kwargs)
        made = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor) and leaf.is_meta]
        for tensor in made:
            self._live.follow(tensor)
        if made and func._overloadpacket in PRODUCTS:
            self._live.flops += PRODUCTS[func._overloadpacket](*args, **kwargs, out_val=out)
        return out


def _shape_of(tensor: Tensor) -> Tensor:
    return tensor if tensor.is_meta else torch.empty_like(tensor, device="meta")


@contextmanager
def _as_on(device: torch.device) -> Iterator[None]:
    """Inside, attention takes the kernel of that device, and of a kernel's equal blocks the largest alone.

    Each block is let go before the next begins, so the largest is the peak; one row of 4,096 tokens has 256.
    """
    choose, steps = attention.choose, kernels._steps

    def chosen(q: Tensor, k: Tensor, rule: kernels.Rule) -> rows.RowKernel:
        return rows.kernel_of(rule, device.type, q.dtype, q.shape[2])

    def largest(piece: Any, q: Any, rule: Any) -> Sequence[tuple[slice, slice]]:
        def size(step: tuple[slice, slice]) -> int:
            return (step[0].stop - step[0].start) * (step[1].stop - step[1].start)

        return [max(steps(piece, q, rule), key=size)]

    attention.choose, kernels._steps = chosen, largest  # pyright: ignore[reportAttributeAccessIssue]  # for so long
    try:
        yield
    finally:
        attention.choose, kernels._steps = choose, steps
