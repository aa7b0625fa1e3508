"""What is counted on shapes is what a real pass keeps, to the byte."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tiny_models
from trueup.engine.packing import pack
from trueup.models import attention
from trueup.models.forward import LanguageModel
from trueup.models.load import from_modules
from trueup.models.lora import wrap
from trueup.planning.counting import counting
from trueup.settings.blocks import LoraSettings


def test_storages_count_once_and_as_long_as_a_tensor_is_over_them() -> None:
    with counting("cpu") as live:
        one = torch.zeros(1000, device="meta")
        view = one[:10]
        assert live.now == live.peak == 4000
        two = torch.zeros(500, dtype=torch.float64, device="meta")
        assert live.now == 8000
        del one
        assert live.now == 8000, "the view holds it"
        del view, two
        assert live.now == 0 and live.peak == 8000
        live.mark()
        assert live.peak == 0


def test_what_was_there_before_and_what_is_real_does_not_count() -> None:
    weight = torch.empty(20, 30, device="meta")
    with counting("cpu", [weight]) as live:
        assert weight.t().sum().item() == 1, "a number that nobody has computed"
        product = torch.ones(5, 20) @ weight
        assert product.is_meta and live.now == 4 * 5 * 30
        assert live.flops == 2 * 5 * 20 * 30


def saved(network: LanguageModel, batch: Any, device: str) -> tuple[int, int]:
    """Bytes that the graph of a pass keeps, indices and weights left out; the bytes of what it returns."""
    own = {
        t.untyped_storage().data_ptr() if not t.is_meta else id(t.untyped_storage()) for t in held(network)
    }
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        key = id(storage) if tensor.is_meta else storage.data_ptr()
        if (
            tensor.is_floating_point()
            and key not in own
            and tensor.device.type == device
            and storage.nbytes()
        ):
            kept[key] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = network(batch, ("logprobs",)).logprobs
    assert out is not None
    total = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    return total, out.untyped_storage().nbytes()


def held(network: LanguageModel) -> Iterable[Tensor]:
    return (*network.module.parameters(), *network.module.buffers())


FEW = (("llama", None), ("gemma2", LoraSettings(rank=2)))
MORE = tuple((family, lora) for family in tiny_models.FAMILIES for lora in (None, LoraSettings(rank=2)))


@pytest.mark.parametrize(
    ("family", "lora"),
    [*FEW, *(pytest.param(*case, marks=pytest.mark.slow) for case in MORE if case not in FEW)],
)
def test_a_pass_counts_what_a_real_one_keeps(family: str, lora: LoraSettings | None) -> None:
    batch = pack(tiny_models.ragged(3))
    torch.manual_seed(0)
    model = tiny_models.FAMILIES[family]()
    real = from_modules(copy.deepcopy(model).eval(), None, lora=lora)
    shapes = on_meta(model, lora, real)
    found, _ = saved(real, batch, "cpu")
    with counting("cpu", held(shapes)):
        counted, returned = saved(shapes, batch, "meta")
    assert counted == found > 10_000
    with counting("cpu", held(shapes)) as live:
        out = shapes(batch, ("logprobs",)).logprobs
        assert out is not None and live.now == counted + returned, "and nothing else stays"
        out.sum().backward()
        del out
        assert live.now == sum(p.numel() * 4 for p in shapes.module.parameters() if p.requires_grad)


def on_meta(model: Any, lora: LoraSettings | None, real: LanguageModel) -> LanguageModel:
    attention.install()
    model = model.eval().to("meta")
    model.set_attn_implementation(attention.NAME)
    with counting("cpu"):
        parts = {"model": wrap(model, lora, 0) if lora else model}
    return LanguageModel(
        module=nn.ModuleDict(parts).to("meta"), tokenizer=None, config=model.config, readout=real.readout
    )
