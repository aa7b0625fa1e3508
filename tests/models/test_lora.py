"""LoRA: the reference is the model that training began from, whatever happens to the adapter."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoTokenizer

from shared_data import shared
from tiny_models import gpt2, llama, ragged
from trueup.errors import TrueupError
from trueup.models import LanguageModel, LoraSettings, from_modules, generate, load, merge, save
from trueup.packing import pack

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
