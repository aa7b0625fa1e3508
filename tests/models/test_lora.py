"""LoRA: the reference is the model that training began from, whatever happens to the adapter."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import AutoTokenizer
from transformers.pytorch_utils import Conv1D

from shared_data import shared
from tiny_models import gpt2, llama, ragged
from trueup.engine.packing import pack
from trueup.errors import TrueupError
from trueup.models import LanguageModel, LoraSettings, from_modules, generate, load, merge, save

SMALL = LoraSettings(rank=4, alpha=8)


def _logprobs(network: LanguageModel) -> Tensor:
    with torch.no_grad():
        found = network(pack(ragged(2)), ("logprobs",)).logprobs
    assert found is not None
    return found


def _train(network: LanguageModel, steps: int = 3) -> None:
    """Some optimiser steps on the adapter, the reference called between them as training does."""
    trained = [p for p in network.module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.05)
    network.module.train()
    for _ in range(steps):
        now = network(pack(ragged(2)), ("logprobs",)).logprobs
        before = _logprobs(network.reference())
        assert now is not None
        (now - before).sum().backward()
        optimizer.step()
        optimizer.zero_grad()


def _saved_base(folder: Path) -> Path:
    tokenizer = AutoTokenizer.from_pretrained(shared("stories260K"))
    return save(from_modules(llama(), tokenizer), folder)


@pytest.mark.parametrize("build_model", (llama, gpt2))
@pytest.mark.parametrize(
    "config",
    (SMALL, LoraSettings(rank=4, rslora=True), LoraSettings(rank=4, dora=True, targets="all-linear")),
)
def test_the_reference_is_the_base(build_model: Any, config: LoraSettings) -> None:
    """At step zero policy, reference and base agree to the bit; after steps the reference still does."""
    base = _logprobs(from_modules(build_model(), None))
    network = from_modules(build_model(), None, lora=config)
    assert network.packs, network.reason
    # DoRA divides by a norm it multiplies by, which rounds.
    exact = 0 if not config.dora else 1e-5
    assert (_logprobs(network) - base).abs().max().item() <= exact
    assert torch.equal(_logprobs(network.reference()), base)
    _train(network)
    assert torch.equal(_logprobs(network.reference()), base)
    assert (_logprobs(network) - base).abs().max().item() > 1e-3


def test_only_the_adapter_and_heads_train() -> None:
    network = from_modules(llama(), None, heads=("logprobs", "values"), lora=SMALL)
    trained = {n for n, p in network.module.named_parameters() if p.requires_grad}
    assert all("lora_" in n or n.startswith("value_head") for n in trained)
    assert any("lora_" in n for n in trained) and not any("lm_head" in n for n in trained)
    network.reference()(pack(ragged(1)), ("logprobs",))
    assert trained == {n for n, p in network.module.named_parameters() if p.requires_grad}


def test_frozen_adapters_stay_frozen() -> None:
    """Calling the reference does not switch gradients back on."""
    network = from_modules(llama(), None, lora=SMALL)
    network.module.requires_grad_(False)
    _logprobs(network.reference())
    assert not any(p.requires_grad for p in network.module.parameters())


def test_the_seed_decides_the_adapter() -> None:
    def first(seed: int) -> list[Tensor]:
        network = from_modules(llama(), None, lora=SMALL, seed=seed)
        return [p for n, p in network.module.named_parameters() if "lora_A" in n]

    torch.manual_seed(1)
    one = first(0)
    torch.manual_seed(2)
    assert all(torch.equal(a, b) for a, b in zip(one, first(0), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(one, first(1), strict=True))


def test_saved_merged_and_warm(tmp_path: Path) -> None:
    """An adapter folder loads as base plus adapter; a further adapter refers to that, not to the base."""
    base = _saved_base(tmp_path / "base")
    network = load(base, lora=SMALL)
    _train(network)
    trained = _logprobs(network)
    for name in ("one", "two"):
        save(network, tmp_path / name)
    digests = [
        {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in (tmp_path / name).iterdir()}
        for name in ("one", "two")
    ]
    assert digests[0] == digests[1] and "adapter_model.safetensors" in digests[0]
    assert (_logprobs(merge(network)) - trained).abs().max().item() <= 1e-5
    assert torch.equal(_logprobs(network), trained), "merging leaves the network as it was"
    warm = load(tmp_path / "one", lora=SMALL)
    assert (_logprobs(warm) - trained).abs().max().item() <= 1e-5
    start = _logprobs(warm.reference())
    _train(warm)
    assert torch.equal(_logprobs(warm.reference()), start)
    with pytest.raises(TrueupError, match="E806"):
        save(warm, tmp_path / "lost")
    save(merge(warm), tmp_path / "whole")
    assert (_logprobs(load(tmp_path / "whole")) - _logprobs(warm)).abs().max().item() <= 1e-5


def test_generation_uses_the_adapter_as_called() -> None:
    network = from_modules(llama(), None, lora=SMALL)
    prompts = [g.prompt_tokens for g in ragged(1) if g.prompt_tokens is not None]
    base = generate(from_modules(llama(), None), prompts, max_new_tokens=12, greedy=True)
    _train(network)
    with_adapter = generate(network, prompts, max_new_tokens=12, greedy=True)
    without = generate(network.reference(), prompts, max_new_tokens=12, greedy=True)
    assert [r[0].tokens.tolist() for r in without] == [r[0].tokens.tolist() for r in base]
    assert [r[0].tokens.tolist() for r in without] != [r[0].tokens.tolist() for r in with_adapter]


def test_only_lora_networks_are_their_own_reference() -> None:
    with pytest.raises(TrueupError, match="E706"):
        from_modules(llama(), None).reference()


def _weights(network: LanguageModel) -> dict[str, Tensor]:
    return {n: m.weight for n, m in network.body.named_modules() if isinstance(m, nn.Linear)}


def _layers(network: LanguageModel) -> list[LoraLayer]:
    return [m for m in network.module.modules() if isinstance(m, LoraLayer)]


@pytest.mark.parametrize("build_model", (llama, gpt2))
def test_an_adapter_has_rank_times_both_sizes_and_nothing_else(build_model: Any) -> None:
    """r (d_in + d_out) parameters for each linear layer of the body; the update's rank is r at most."""
    plain = from_modules(build_model(), None)
    sizes = [tuple(m.weight.shape) for m in plain.body.modules() if isinstance(m, nn.Linear | Conv1D)]
    network = from_modules(build_model(), None, lora=SMALL)
    trained = [p for p in network.module.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trained) == 4 * sum(sum(size) for size in sizes)
    _train(network)
    layers = _layers(network)
    assert len(layers) == len(sizes)
    for layer in layers:
        update = layer.get_delta_weight("default").detach().double()
        assert 0 < torch.linalg.matrix_rank(update, rtol=1e-5).item() <= 4


@pytest.mark.parametrize(("rslora", "scale"), [(False, 6 / 9), (True, 6 / 3)])
def test_the_update_is_scaled_by_alpha_over_the_rank_or_its_root(rslora: bool, scale: float) -> None:
    """ΔW = s B A with s = α / r = 6 / 9, or with rsLoRA α / √r = 6 / 3."""
    network = from_modules(llama(), None, lora=LoraSettings(rank=9, alpha=6, rslora=rslora))
    _train(network)
    before, after = _weights(from_modules(llama(), None)), _weights(merge(network))
    wrapped = {n: m for n, m in network.body.named_modules() if isinstance(m, LoraLayer)}
    assert len(wrapped) == 14
    for name, layer in wrapped.items():
        product = layer.lora_B["default"].weight @ layer.lora_A["default"].weight
        assert (after[name] - before[name] - scale * product).abs().max().item() < 1e-5
        assert product.abs().max().item() > 1e-3


def test_dora_trains_the_columns_norms_apart() -> None:
    """W' = m (W + s B A) / ‖W + s B A‖ by rows of the weight, with m = ‖W‖ at the start (Liu et al. 2024)."""
    network = from_modules(llama(), None, lora=LoraSettings(rank=4, alpha=8, dora=True))
    plain = _weights(from_modules(llama(), None))
    wrapped = {n: m for n, m in network.body.named_modules() if isinstance(m, LoraLayer)}
    for name, layer in wrapped.items():
        magnitude = layer.lora_magnitude_vector["default"].weight
        assert magnitude.requires_grad
        assert (magnitude - plain[name].norm(dim=1)).abs().max().item() < 1e-5
    _train(network)
    merged = _weights(merge(network))
    for name, layer in wrapped.items():
        whole = plain[name] + 2 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
        magnitude = layer.lora_magnitude_vector["default"].weight
        expected = magnitude[:, None] * whole / whole.norm(dim=1, keepdim=True)
        assert (merged[name] - expected).abs().max().item() < 1e-5
    assert (_logprobs(merge(network)) - _logprobs(network)).abs().max().item() < 1e-5


@pytest.mark.parametrize("form", [{}, {"rslora": True}, {"dora": True}])
def test_merged_says_what_the_adapter_says(form: dict[str, bool]) -> None:
    network = from_modules(gpt2(), None, lora=LoraSettings(rank=4, **form))
    _train(network)
    assert (_logprobs(merge(network)) - _logprobs(network)).abs().max().item() < 1e-5


def test_an_adapter_goes_with_the_network_it_was_trained_on(tmp_path: Path) -> None:
    """A policy's adapter reaches a network without an LM head, and a reward model's one that has it."""
    base = _saved_base(tmp_path / "base")
    policy = load(base, lora=SMALL)
    reward = load(base, heads=("rewards",), lora=SMALL)
    for name, network in (("policy", policy), ("reward", reward)):
        for key, p in network.module.named_parameters():
            if "lora_B" in key:
                p.data.normal_(std=0.1, generator=torch.Generator().manual_seed(3))
        save(network, tmp_path / name)
    for name, network in (("policy", policy), ("reward", reward)):
        for heads in (("logprobs",), ("values",)):
            ours = load(tmp_path / name, heads=heads)
            found, wanted, plain = (
                m.body(input_ids=torch.arange(5)[None], use_cache=False).last_hidden_state
                for m in (ours, network, from_modules(llama(), None))
            )
            assert (found - wanted).abs().max().item() < 1e-5, (name, heads)
            assert (found - plain).abs().max().item() > 1e-3
