"""Linear layers over weights laid out for the processor's matrix product, while tokens are generated.

`F.linear` finds the weights as they lie at every call, and with few rows spends its time on that. oneDNN can
lay them out once (`mkldnn::_reorder_linear_weight`) and multiply by the result (`mkldnn::_linear_pointwise`).
In bfloat16 the products are the same to the last bit, in float32 to rounding.

It costs a second copy of the weights, released when the call ends: weights that change later are laid out
anew. For 30 million weights in float32 that took 30 to 70 ms, as long as 8 to 20 tokens save. It is not done
for fewer tokens than `STEPS`, for a copy larger than `SHARE` of the machine's memory, for layers too small to
gain, for anything but a plain `nn.Linear` on a CPU in float32 or bfloat16 (of an adapted layer the base is
one), and where the operators, which are torch's own, are missing or a trial shows that they compute something
else. A float32 row by itself goes through `F.linear` on Intel's processors, whose library is faster there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

STEPS = 32
"Fewest new tokens that are worth it: most completions end before the limit."
SMALLEST = {torch.float32: 1 << 18, torch.bfloat16: 1 << 15}
"Weights of a layer below which the call itself costs more than it saves."
SHARE = 1 / 8
"Of the machine's memory, for the copies."
CLOSE = {torch.float32: 1e-5, torch.bfloat16: 1e-2}
"Largest difference that a trial allows, as a share of the largest output."


@contextmanager
def prepacked(module: nn.Module, *, rows: int, steps: int) -> Iterator[None]:
    """Inside, the module's plain linear layers multiply by copies laid out beforehand, for inference alone.

    `rows` run together for `steps` tokens. Weights must not change inside.
    """
    packed: list[nn.Module] = []
    try:
        for layer in _chosen(module, rows) if steps >= STEPS else ():
            vars(layer)["forward"] = _forward(layer)
            packed.append(layer)
        yield
    finally:
        for layer in packed:
            vars(layer).pop("forward", None)


def is_packed(layer: nn.Module) -> bool:
    """Whether a layer is to be called, since its own forward is not that of its class."""
    return "forward" in vars(layer)


def _chosen(module: nn.Module, rows: int) -> list[nn.Linear]:
    """The layers that gain; none where their copies would be too large together."""
    linear = (layer for layer in module.modules() if isinstance(layer, nn.Linear))
    found = [layer for layer in linear if _gains(layer, rows)]
    return found if sum(layer.weight.nbytes for layer in found) <= SHARE * _memory() else []


def _gains(layer: nn.Linear, rows: int) -> bool:
    if type(layer) is not nn.Linear or is_packed(layer):
        return False
    weight = layer.weight
    plain = type(weight) in (nn.Parameter, Tensor) and weight.device.type == "cpu" and weight.is_contiguous()
    if not plain or weight.numel() < SMALLEST.get(weight.dtype, weight.numel() + 1):
        return False
    alone = rows == 1 and weight.dtype == torch.float32 and _by_intel()
    return not alone and _sound(weight.dtype)


def _forward(layer: nn.Linear) -> Callable[[Tensor], Tensor]:
    """What the layer computes, over a copy of its weight."""
    weight, bias, width = layer.weight.detach(), layer.bias, layer.in_features
    copy: Any = torch.ops.mkldnn._reorder_linear_weight(weight)
    multiply = torch.ops.mkldnn._linear_pointwise
    plain = weight.dtype == torch.float32 and _by_intel()

    def forward(x: Tensor) -> Tensor:
        if (plain and x.numel() == width) or x.dtype != weight.dtype:
            return nn.functional.linear(x, weight, bias)
        return multiply(x, copy, bias, "none", [], "")

    return forward


@cache
def _sound(dtype: torch.dtype) -> bool:
    """Whether the operators are there and give what `F.linear` gives: a trial of one row and of several."""
    generator = torch.Generator().manual_seed(0)
    layer: Any = nn.utils.skip_init(nn.Linear, 96, 80, dtype=dtype, device="cpu")  # draws nothing
    with torch.inference_mode():
        for values in (layer.weight, layer.bias):
            values.copy_(torch.randn(values.shape, generator=generator))
        try:
            packed = _forward(layer)
            for shape in ((1, 96), (2, 1, 96), (33, 96)):
                x = torch.randn(shape, generator=generator).to(dtype)
                expected = layer(x)
                gap = (packed(x) - expected).abs().max() / expected.abs().max()
                if not gap <= CLOSE[dtype]:
                    return False
        except (RuntimeError, AttributeError, TypeError):
            # A trial of private operators: whatever they raise means that they cannot be used here.
            return False
    return True


@cache
def _by_intel() -> bool:
    asked = getattr(torch.cpu, "get_capabilities", dict)
    return "intel" in str(asked().get("cpu_name", "")).lower()


@cache
def _memory() -> int:
    """Bytes of the machine's memory; none where it does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0
