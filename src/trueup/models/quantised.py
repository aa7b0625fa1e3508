"""QLoRA's base: linear layers held in 4-bit NormalFloat with double quantisation (Dettmers et al. 2023).

    W ≈ NF4[code] · absmax        64 weights share an absmax; 256 absmax share a scale and are kept in 8 bits

Weights are unpacked as they are needed, and a layer computes in the model's own precision. The LM head, the
embeddings and the norms stay as they are, and so does a layer whose rows are no multiple of 64 long: on a CPU
bitsandbytes 0.50.2 unpacks it wrong, by as much as its largest weight. Needs the extra `trueup[qlora]`.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import torch
from torch import nn

from trueup.errors import TrueupError

BLOCK = 64
"Weights that share an absmax."


def quantise(model: Any) -> Any:
    """The Hugging Face model with the linear layers of its body replaced by 4-bit ones, in place.

    Layers that are 4-bit already are left. Raises E808 without bitsandbytes and E809 for a model that has no
    such layer, or is in float64.
    """
    bnb = _library()
    body = model.base_model
    dtype = next(body.parameters()).dtype
    layers = [(name, layer) for name, layer in body.named_modules() if isinstance(layer, nn.Linear)]
    found = [(name, layer) for name, layer in layers if layer.in_features % BLOCK == 0]
    if dtype == torch.float64 or not found:
        without = f"{type(model).__name__} has no linear layer whose rows are a multiple of {BLOCK} long"
        what = "float64 has no 4-bit form" if found else without
        raise TrueupError(
            "E809", what, where="model.lora.quantise", remedy="use float32 or bfloat16, or quantise: none"
        )
    for name, layer in found:
        if not isinstance(layer, bnb.nn.Linear4bit):
            body.set_submodule(name, _packed(bnb, layer, dtype))
    # What peft asks before it puts its own layers around 4-bit ones.
    model.is_loaded_in_4bit = body.is_loaded_in_4bit = True
    return model


def is_quantised(model: Any) -> bool:
    """Whether a Hugging Face model holds its linear layers in 4 bits."""
    return bool(getattr(model, "is_loaded_in_4bit", False))


def lift(model: Any) -> Any:
    """The model with every 4-bit layer replaced by a plain one that holds what it stood for, in place."""
    bnb = _library()
    for name, layer in list(model.named_modules()):
        if isinstance(layer, bnb.nn.Linear4bit):
            weight: Any = layer.weight
            plain = nn.Linear(layer.in_features, layer.out_features, layer.bias is not None, device="meta")
            values = bnb.functional.dequantize_4bit(weight.data, weight.quant_state)
            plain.weight = nn.Parameter(values.to(layer.compute_dtype), requires_grad=False)
            plain.bias = layer.bias
            model.set_submodule(name, plain)
    model.is_loaded_in_4bit = model.base_model.is_loaded_in_4bit = False
    return model


def _packed(bnb: Any, layer: nn.Linear, dtype: torch.dtype) -> nn.Module:
    packed = bnb.nn.Linear4bit(
        layer.in_features,
        layer.out_features,
        bias=layer.bias is not None,
        compute_dtype=dtype,
        compress_statistics=True,
        quant_type="nf4",
        device="meta",
    )
    packed.weight = bnb.nn.Params4bit(
        layer.weight.data, requires_grad=False, compress_statistics=True, quant_type="nf4", module=packed
    )
    packed.bias = layer.bias
    # On some CPUs a forward without gradient would rearrange the weights for itself, in place, and fail on
    # sizes that 32 does not divide: networks that share them would read another order.
    packed.support_avx512bf16_for_cpu = False
    # The weights are packed when they are put on a device.
    return packed.to(layer.weight.device)


def _library() -> Any:
    if importlib.util.find_spec("bitsandbytes") is None:
        raise TrueupError(
            "E808",
            "4-bit weights need bitsandbytes, which is not installed",
            where="model.lora.quantise",
            remedy="pip install 'trueup[qlora]', or quantise: none",
        )
    return importlib.import_module("bitsandbytes")
