"""Weights laid out beforehand: the same products, for plain layers alone, and nothing left behind."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from weakref import ref

import numpy as np
import pytest
import torch
from torch import nn

from tiny_models import FAMILIES, llama
from trueup.models import LoraSettings, from_modules, generate, prepacked

PROMPTS = [np.arange(2, 5 + 3 * i, dtype=np.int32) for i in range(3)]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Small layers take part, and a row by itself does on every processor."""
    monkeypatch.setattr(prepacked, "SMALLEST", dict.fromkeys(prepacked.SMALLEST, 0))
    monkeypatch.setattr(prepacked, "_by_intel", lambda: False)
    yield


@pytest.mark.parametrize(("dtype", "close"), ((torch.float32, 1e-6), (torch.bfloat16, 0.0)))
@pytest.mark.parametrize("bias", (True, False))
def test_a_layer_computes_what_it_computed(dtype: torch.dtype, close: float, bias: bool) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(40, 56, bias, dtype=dtype)
    with torch.inference_mode():
        for shape in ((1, 40), (7, 40), (3, 1, 40), (2, 33, 40)):
            x = torch.randn(shape).to(dtype)
            expected = layer(x)
            with prepacked.prepacked(layer, rows=4, steps=64):
                assert prepacked.is_packed(layer)
                found = layer(x)
            assert found.shape == expected.shape and found.dtype == dtype
            assert (found - expected).abs().max() <= close * expected.abs().max()


def test_who_is_left_as_he_was() -> None:
    """Float64, layers of another class or weight, layers too small, and calls too short to gain."""

    class Other(nn.Linear):
        """Does something of its own."""

    odd = nn.Linear(8, 8)
    odd.weight = nn.Parameter(torch.zeros(8, 16)[:, ::2])
    module = nn.ModuleList((nn.Linear(8, 8, dtype=torch.float64), Other(8, 8), odd, nn.Conv1d(8, 8, 1)))
    with prepacked.prepacked(module, rows=4, steps=64):
        assert not any(prepacked.is_packed(layer) for layer in module)
    plain = nn.Linear(8, 8)
    with prepacked.prepacked(plain, rows=4, steps=prepacked.STEPS - 1):
        assert not prepacked.is_packed(plain)


def test_what_the_machine_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = nn.Linear(64, 64)

    def packs(rows: int) -> bool:
        with prepacked.prepacked(layer, rows=rows, steps=64):
            return prepacked.is_packed(layer)

    assert packs(1) and packs(2)
    monkeypatch.setattr(prepacked, "_by_intel", lambda: True)
    assert not packs(1) and packs(2)
    with prepacked.prepacked(layer, rows=2, steps=64), torch.inference_mode():
        x = torch.randn(1, 64)
        assert torch.equal(layer(x), nn.functional.linear(x, layer.weight, layer.bias))
    monkeypatch.setattr(prepacked, "_memory", lambda: 8 * layer.weight.nbytes - 1)
    assert not packs(2)


@pytest.mark.parametrize("wrong", ("missing", "different"))
def test_operators_that_fail_a_trial_are_not_used(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepacked, "_sound", prepacked._sound.__wrapped__)
    layer = nn.Linear(64, 64)
    forward = prepacked._forward

    def broken(layer: nn.Linear) -> object:
        if wrong == "missing":
            # As torch answers where it was built without the operator: what the trial has to survive.
            raise NotImplementedError("no such operator")
        return lambda x: forward(layer)(x) * 1.001

    monkeypatch.setattr(prepacked, "_forward", broken)
    with prepacked.prepacked(layer, rows=2, steps=64):
        assert not prepacked.is_packed(layer)


def test_nothing_is_left_behind() -> None:
    """Neither after the call nor after one that ended early; the copy is freed."""
    layer = nn.Linear(64, 64)
    with prepacked.prepacked(layer, rows=2, steps=64):
        copy = ref(layer.forward)
    gc.collect()
    assert copy() is None and not prepacked.is_packed(layer)
    with pytest.raises(ValueError, match="stop"), prepacked.prepacked(layer, rows=2, steps=64):
        raise ValueError("stop")
    assert not prepacked.is_packed(layer)


@pytest.mark.parametrize("family", FAMILIES)
def test_samples_are_the_same(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an adapter too; and weights that change between two calls are seen."""
    lora = LoraSettings(rank=4) if family == "llama" else None
    network = from_modules(FAMILIES[family](), None, lora=lora)
    given = {"k": 2, "max_new_tokens": 32, "seed": 1, "stop_ids": (1,)}
    seen: list[bool] = []

    def look() -> None:
        seen.append(any(prepacked.is_packed(layer) for layer in network.module.modules()))

    def run() -> list[list[int]]:
        return [s.tokens.tolist() for row in generate(network, PROMPTS, **given, pulse=look) for s in row]

    found = run()
    assert all(seen), "each of them has plain layers: the LM head, if no other"
    with torch.no_grad():
        network.hf_model.get_output_embeddings().weight.mul_(1.5)
    changed = run()
    monkeypatch.setattr(prepacked, "STEPS", 1 << 30)
    seen.clear()
    assert changed == run() != found and not any(seen)


def test_the_present_processor_passes_the_trial() -> None:
    if not torch.backends.mkldnn.is_available():
        # There is no operator to try then; that layers stay as they are is the test above.
        pytest.skip("this torch was built without oneDNN")
    assert prepacked._sound(torch.float32) and isinstance(llama().lm_head, nn.Linear)
