"""Ranks: the processes that train one model together, one a device, and what they tell one another.

Every rank runs the same loop over the same groups, so whatever sees a whole step sees it everywhere, and all
make the same choices. What costs time is shared out (a minibatch's passes, what networks measure, what is
sampled) and told to all. Nothing that travels is a pickle: bytes, JSON, and the bytes of tensors.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any, final

import torch
from torch import Tensor, distributed

from trueup.engine.order import derive

BUCKET = 1 << 24
"Gradient entries that travel together."
_HALVES = (torch.float16, torch.bfloat16)


@final
@dataclass(frozen=True, kw_only=True)
class Ranks:
    """This process among those of a run. Alone, as by default, every method gives back what it was given.

    Methods other than `shares`, `mine` and `derive` have to be called by all ranks, in the same order.
    """

    index: int = 0
    count: int = 1
    sharded: bool = False
    "Whether each rank holds a part of every network: then all must make equal numbers of passes."

    @property
    def leads(self) -> bool:
        """Whether this is the rank that writes and speaks."""
        return self.index == 0

    def derive(self, seed: int, *names: str | int) -> int:
        """A seed of this rank's passes alone: dropout on other groups is other dropout."""
        return derive(seed, *names, *([self.index] if self.index else []))

    def shares(self, sizes: Sequence[int]) -> list[range]:
        """Each rank's run of consecutive items; the largest share is as small as such runs can be."""
        if self.count == 1:
            return [range(len(sizes))]
        low, high = max(sizes, default=0), sum(sizes)
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if len(_filled(sizes, middle)) <= self.count else (middle + 1, high)
        ends = [*_filled(sizes, low), *[len(sizes)] * self.count][: self.count]
        return [range(start, end) for start, end in zip([0, *ends], ends, strict=False)]

    def mine(self, sizes: Sequence[int]) -> range:
        """This rank's run of `shares`."""
        return self.shares(sizes)[self.index]

    # ---------------------------------------------------------------------------------- bytes and values

    def gather(self, data: bytes) -> list[bytes]:
        """What each rank gave, by rank."""
        if self.count == 1:
            return [data]
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.count)]
        distributed.all_gather(sizes, torch.tensor([len(data)]))
        longest = max(int(size) for size in sizes)
        own = torch.zeros(longest, dtype=torch.uint8)
        if data:
            own[: len(data)] = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        found = [torch.zeros(longest, dtype=torch.uint8) for _ in range(self.count)]
        if longest:
            distributed.all_gather(found, own)
        return [part[: int(size)].numpy().tobytes() for part, size in zip(found, sizes, strict=True)]

    def values(self, value: Any) -> list[Any]:
        """What each rank gave, by rank: anything that JSON holds; numbers arrive to the last bit."""
        if self.count == 1:
            return [value]
        return [json.loads(part) for part in self.gather(json.dumps(value).encode())]

    def first(self, value: Any) -> Any:
        """What rank 0 gave: anything that JSON holds."""
        return self.values(value if self.leads else None)[0]

    def anyone(self, said: str) -> str:
        """What the first rank that said anything said; "" where none did."""
        return next(filter(None, self.values(said)), "")

    def wait(self) -> None:
        """Nothing, once every rank has come here."""
        self.gather(b"")

    @contextmanager
    def one_first(self) -> Iterator[None]:
        """Rank 0 does what is inside before the others do: they find what it left in caches."""
        if not self.leads:
            self.wait()
        yield
        if self.leads:
            self.wait()

    # ---------------------------------------------------------------------------------- results

    def summed(self, numbers: Mapping[str, float]) -> dict[str, float]:
        """Σ over ranks of each number by its name; the sum has the same bits on all."""
        total: dict[str, float] = {}
        for part in self.values(dict(numbers)):
            for name, value in part.items():
                total[name] = total.get(name, 0.0) + value
        return total

    def together(self, found: Any) -> Any:
        """One mapping of the ranks': what is numbers is summed, what is lists put one behind the other."""
        if self.count == 1:
            return found
        lists = any(self.values(any(isinstance(value, list) for value in found.values())))
        return self.chained(found) if lists else self.summed(found)

    def chained(self, lists: Mapping[str, list[float]]) -> dict[str, list[float]]:
        """Each list by its name, the ranks' parts one behind the other."""
        parts = self.values(dict(lists))
        return {
            name: [*chain(*(part.get(name, ()) for part in parts))]
            for name in dict(chain(*map(dict.items, parts)))
        }

    def joined(self, tensor: Tensor) -> Tensor:
        """The ranks' rows one behind the other, where the own ones lie; parts without rows do not count."""
        if self.count == 1:
            return tensor
        own = tensor.detach().cpu().contiguous()
        kinds = self.values([str(own.dtype).removeprefix("torch."), list(own.shape)] if len(own) else None)
        parts = self.gather(own.reshape(-1).view(torch.uint8).numpy().tobytes() if len(own) else b"")
        found = [_tensor(part, *kind) for part, kind in zip(parts, kinds, strict=True) if kind]
        return torch.cat(found).to(tensor.device) if found else tensor

    # ---------------------------------------------------------------------------------- weights

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Nothing; every `.grad` is the sum over ranks. Sharded parameters were summed on their way back."""
        if self.count == 1:
            return
        own = [p for p in parameters if not is_sharded(p)]
        known = self.gather(bytes(p.grad is not None for p in own))
        wanted = [p for p, *has in zip(own, *known, strict=True) if any(has)]
        for bucket in _buckets(wanted):
            grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in bucket]
            dtype = torch.float32 if grads[0].dtype in _HALVES else grads[0].dtype
            flat = torch.cat([g.flatten().to(dtype) for g in grads])
            distributed.all_reduce(flat)
            for p, part in zip(bucket, flat.split([p.numel() for p in bucket]), strict=True):
                p.grad = part.view_as(p).to(p.dtype).clone()

    def spread_weights(self, tensors: Iterable[Tensor]) -> None:
        """Nothing; tensors that every rank holds whole are rank 0's."""
        for tensor in tensors if self.count > 1 else ():
            if not is_sharded(tensor):
                distributed.broadcast(tensor, 0)

    def first_tensors(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rank 0's tensors by name, on the CPU."""
        if self.count == 1:
            return dict(tensors)
        kinds = {n: [str(t.dtype).removeprefix("torch."), list(t.shape)] for n, t in tensors.items()}
        found: dict[str, Tensor] = {}
        for name, (dtype, shape) in self.first(kinds).items():
            found[name] = (
                tensors[name].contiguous() if self.leads else torch.empty(shape, dtype=getattr(torch, dtype))
            )
            distributed.broadcast(found[name], 0)
        return found

    def whole(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors as one process would hold them. Rank 0 has what was sharded, on its CPU."""
        found: dict[str, Tensor] = {}
        for name, tensor in tensors.items():
            full = whole(tensor)
            if self.leads or full is tensor:
                found[name] = full if full is tensor else full.cpu()
        return found


ALONE = Ranks()


def is_sharded(tensor: Tensor) -> bool:
    """Whether each rank holds a part of the tensor."""
    return hasattr(tensor, "placements")


def whole(tensor: Tensor) -> Tensor:
    """The tensor in one piece, on every rank; itself where it is so already."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor  # pyright: ignore[reportAttributeAccessIssue] - DTensor's


def placed(value: Tensor, like: Tensor) -> Tensor:
    """The value, which every rank has whole, sharded as `like` is where that is sharded."""
    if not is_sharded(like):
        return value
    from torch.distributed.tensor import distribute_tensor

    mesh, placements = like.device_mesh, like.placements  # pyright: ignore[reportAttributeAccessIssue] - DTensor's
    return distribute_tensor(value.to(mesh.device_type), mesh, placements)


def _filled(sizes: Sequence[int], most: int) -> list[int]:
    """Where runs end that take items in order while their sizes come to `most` at most."""
    ends: list[int] = []
    held = 0
    for place, size in enumerate(sizes):
        if held + size > most and held:
            ends.append(place)
            held = 0
        held += size
    return [*ends, len(sizes)]


def _tensor(data: bytes, dtype: str, shape: list[int]) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=getattr(torch, dtype)).reshape(shape)


def _buckets(parameters: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Consecutive runs of parameters of one dtype, of at most `BUCKET` entries where one alone is no more."""
    run: list[Tensor] = []
    for p in parameters:
        if run and (p.dtype != run[0].dtype or sum(q.numel() for q in run) + p.numel() > BUCKET):
            yield run
            run = []
        run.append(p)
    if run:
        yield run
