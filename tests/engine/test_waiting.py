"""How often a training step makes the host wait for the device, counted on a CPU: twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from engine.test_real_networks import build, collected, opened
from tiny_models import FAMILIES, gpt2, llama, ragged
from trueup.engine.loop import Step
from trueup.engine.packing import pack
from trueup.models import from_modules
from trueup.update.adamw import AdamW

READS = {
    *("item", "tolist", "numpy", "cpu", "__float__", "__int__", "__bool__", "__index__", "__array__"),
    *("nonzero", "argwhere", "unique", "_unique2", "unique_consecutive", "bincount", "masked_select"),
    *("equal", "allclose", "is_nonzero", "_local_scalar_dense"),
}
"Calls whose result, or its size, the host has to know."


def _by_mask(name: str, args: Any) -> bool:
    """Whether entries are picked by a mask, or repeated by a tensor of counts."""
    if name == "repeat_interleave":
        return isinstance(args[1], Tensor)
    parts = args[1] if isinstance(args[1], tuple) else args[1:2]
    return any(isinstance(x, Tensor) and x.dtype == torch.bool for x in parts)


@dataclass(frozen=True)
class Seen:
    """What the host asked of tensors, by name: in Python, and below it, where torch's own C++ asks."""

    calls: Counter[str] = field(default_factory=Counter)
    kernels: Counter[str] = field(default_factory=Counter)


class _Calls(TorchFunctionMode):
    def __init__(self, seen: Counter[str]) -> None:
        super().__init__()
        self.seen = seen

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        picks = name in ("__getitem__", "__setitem__", "repeat_interleave") and _by_mask(name, args)
        if name in READS or picks:
            self.seen[name] += 1
        return func(*args, **(kwargs or {}))


class _Kernels(TorchDispatchMode):
    def __init__(self, seen: Counter[str]) -> None:
        super().__init__()
        self.seen = seen

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().removeprefix("aten::").partition(".")[0]
        if name in READS:
            self.seen[name] += 1
        return func(*args, **(kwargs or {}))


@contextmanager
def counted() -> Iterator[Seen]:
    """What the host reads inside."""
    seen = Seen()
    with _Calls(seen.calls), _Kernels(seen.kernels):
        yield seen


def test_the_counter_sees_each_way_of_reading() -> None:
    x = torch.tensor([1.0, 2.0])
    ways = (
        lambda: float(x[0]), lambda: x[0].item(), lambda: x.tolist(), lambda: bool((x > 0).all()),
        lambda: torch.unique(x), lambda: x[x > 1], lambda: torch.bincount(x.long()), lambda: x.numpy(),
        lambda: x.repeat_interleave(x.long()), lambda: torch.nonzero(x),
    )  # fmt: skip
    for way in ways:
        with counted() as found:
            way()
        assert found.calls.total() == 1


@pytest.mark.parametrize(("name", "family"), [("dpo", llama), ("sft", gpt2), ("grpo", llama), ("ppo", llama)])
def test_a_step_waits_twice(name: str, family: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once for all losses and metrics of its passes, whatever their number, and once for the gradient's norm.

    AdamW's own count of its steps lies on the host and is left out.
    """
    method = build(name, update=AdamW(lr=1e-3))
    handles = opened(method, dtype=torch.float32, family=family)
    made = collected(method, handles)
    handles.state.update(beta=0.05)
    rule = method.update.start({n: handles.networks[n] for n in method.trains}, 4)
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self: None)
    rule.step(Step(method, handles, made))
    with counted() as found:
        rule.step(Step(method, handles, made))
    assert found.calls == {"tolist": 1, "__float__": 1}
    assert found.kernels == {"_local_scalar_dense": 1}  # the second; a list is read without one on a CPU


@pytest.mark.parametrize("family", FAMILIES)
def test_no_forward_or_backward_pass_waits(family: str) -> None:
    network = from_modules(FAMILIES[family](), None, heads=("logprobs", "values", "rewards"))
    batch = pack(ragged(4))
    with counted() as found:
        out = network(batch, ("logprobs", "entropy", "values", "rewards"))
        assert out.logprobs is not None and out.values is not None and out.rewards is not None
        (out.logprobs.sum() + out.values.sum() + out.rewards.sum()).backward()
    assert not found.calls and not found.kernels
