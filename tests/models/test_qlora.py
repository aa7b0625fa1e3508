"""QLoRA: a base in 4 bits under an adapter. What needs bitsandbytes runs where the extra is installed."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import Tensor

from held_bytes import held
from tiny_models import gpt2, llama, ragged
from trueup.engine.packing import pack
from trueup.errors import TrueupError
from trueup.methods import ppo
from trueup.models import LanguageModel, from_modules, load, merge, save
from trueup.models import quantised as quantised_of
from trueup.models.opening import model_path
from trueup.models.quantised import BLOCK, is_quantised, lift, quantise
from trueup.models.shared import Base, twin
from trueup.runs.training import train
from trueup.settings import config as configuration
from trueup.settings.blocks import LoraSettings

INSTALLED = importlib.util.find_spec("bitsandbytes") is not None
needs_it = pytest.mark.skipif(not INSTALLED, reason="4-bit weights need the extra trueup[qlora]")
LORA = LoraSettings(rank=4, quantise="nf4")
LEVELS = [
    *(-1.0, -0.696193, -0.525073, -0.394917, -0.284441, -0.184773, -0.091050, 0.0),
    *(0.079580, 0.160930, 0.246112, 0.337915, 0.440710, 0.562617, 0.722957, 1.0),
]


def nf4() -> Tensor:
    from bitsandbytes.functional import get_4bit_type

    return get_4bit_type("nf4", device="cpu")


def wide(**changes: Any) -> Any:
    return llama(**{"hidden_size": 64, "intermediate_size": 128, **changes})


def _logprobs(network: LanguageModel) -> Tensor:
    with torch.no_grad():
        found = network(pack(ragged(2)), ("logprobs",)).logprobs
    assert found is not None
    return found


def _train(network: LanguageModel, steps: int) -> list[float]:
    optimizer = torch.optim.AdamW([p for p in network.module.parameters() if p.requires_grad], lr=2e-3)
    losses = []
    for _ in range(steps):
        said = network(pack(ragged(2)), ("logprobs",)).logprobs
        assert said is not None
        loss = -said.mean()
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return losses


def test_without_the_library_the_remedy_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantised_of.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TrueupError, match=r"E808 model\.lora\.quantise.*trueup\[qlora\]"):
        from_modules(wide(), None, lora=LORA)


@needs_it
def test_the_levels_are_the_papers() -> None:
    """The quantiles of a normal: Φ⁻¹ of 9 points from c to .5 and of 8, each side's, over the largest."""
    c = 0.9677083
    above = norm.ppf(np.linspace(c, 0.5, 9))[:8]
    below = -norm.ppf(np.linspace(c, 0.5, 8))[:7]
    built = np.sort(np.concatenate([above, [0.0], below])) / above.max()
    assert nf4().tolist() == pytest.approx(LEVELS, abs=1e-6)
    assert nf4().tolist() == pytest.approx(built.tolist(), abs=1e-5)


@needs_it
def test_what_lies_on_the_levels_comes_back_exactly() -> None:
    """Blocks of 64 drawn from the levels times 2^k, each with its largest level: nothing is rounded."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    picks = torch.randint(0, 16, (8, 64), generator=torch.Generator().manual_seed(0))
    picks[:, 0] = 15
    weights = nf4()[picks] * 2.0 ** torch.arange(-4, 4)[:, None]
    codes, state = quantize_4bit(weights, blocksize=64, quant_type="nf4")
    assert torch.equal(dequantize_4bit(codes, state), weights)


@needs_it
def test_a_second_rounding_changes_nothing() -> None:
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    weights = torch.randn(16, 64, generator=torch.Generator().manual_seed(1))
    codes, state = quantize_4bit(weights, blocksize=64, quant_type="nf4")
    once = dequantize_4bit(codes, state)
    again, restated = quantize_4bit(once, blocksize=64, quant_type="nf4")
    assert torch.equal(codes, again) and torch.equal(dequantize_4bit(again, restated), once)
    assert not torch.equal(once, weights)


@needs_it
def test_linear_layers_of_the_body_are_rounded_to_the_nearest_level() -> None:
    """Half the widest gap between levels, (1 − .696193) / 2, and 2 % for the absmax that are rounded too.

    Rows of 96 weights, no multiple of 64, stay: bitsandbytes unpacks them wrong on a CPU.
    """
    packed, plain = lift(quantise(wide(intermediate_size=96))), wide(intermediate_size=96)
    assert not is_quantised(packed)
    after = dict(packed.named_parameters())
    rounded = {name for name, weight in plain.named_parameters() if not torch.equal(after[name], weight)}
    assert rounded == {
        name
        for name, _ in plain.named_parameters()
        if name.endswith("_proj.weight") and not name.endswith("down_proj.weight")
    }
    for name in rounded:
        blocks, found = (x.detach().reshape(-1, BLOCK) for x in (plain.get_parameter(name), after[name]))
        largest = blocks.abs().amax(1, keepdim=True)
        gap = ((found - blocks).abs() / largest).max().item()
        assert 0.1 < gap <= (1 - 0.696193) / 2 + 0.02, name


@needs_it
def test_an_adapter_trains_over_4_bits_and_merges_what_it_was_trained_beside(tmp_path: Path) -> None:
    """Five steps lower the loss; merged or loaded again it says the same; on full weights it does not."""
    network = load(model_path("lab:base"), lora=LORA)
    start = _logprobs(network)
    assert network.packs and is_quantised(network.hf_model)
    assert torch.equal(start, _logprobs(network.reference()))
    losses = _train(network, 5)
    assert losses[-1] < losses[0]
    assert torch.equal(start, _logprobs(network.reference()))
    trained = _logprobs(network)
    merged = merge(network)
    assert not is_quantised(merged.hf_model) and is_quantised(network.hf_model)
    assert (_logprobs(merged) - trained).abs().max().item() < 1e-4
    assert torch.equal(_logprobs(network), trained), "merging leaves the network as it was"
    save(network, tmp_path / "adapter")
    assert (_logprobs(load(tmp_path / "adapter")) - trained).abs().max().item() < 1e-4
    shutil.copytree(tmp_path / "adapter", tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "trueup_base.json").unlink()
    assert (_logprobs(load(tmp_path / "elsewhere")) - trained).abs().max().item() > 0.1


@needs_it
def test_networks_share_a_4_bit_base() -> None:
    model = quantise(wide()).requires_grad_(False)
    layers = [type(m).__name__ for m in model.modules()]
    assert layers.count("Linear4bit") == 14 and quantise(model) is model
    one = held({"a": from_modules(twin(model), None)})["weights"]
    assert (
        held({"a": from_modules(twin(model), None), "b": from_modules(twin(model), None)})["weights"] == one
    )
    both = Base(model=model, tokenizer=None)
    policy, value = (
        both.network(lora=LORA, trained=True),
        both.network(heads=("values",), lora=LORA, trained=True),
    )
    own = sum(p.numel() for p in value.module.parameters() if p.requires_grad)
    together = held({"policy": policy, "value": value})["weights"]
    assert together - held({"policy": policy})["weights"] == 4 * own


@needs_it
def test_ppo_trains_over_one_4_bit_base(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "model": {"lora": {"rank": 4, "quantise": "nf4"}, "roles": "shared"},
        "data": {"path": "lab:prompts", "limit": 8, "held_out": 0.25},
        "decoding": {"max_new_tokens": 4},
        "loop": {"steps": 2, "batch": 2},
        "minibatch": None,
        "update": {"lr": 3e-4},
    }
    trained = train(ppo, configuration.build(ppo.Config, settings, where="test"), tmp_path)
    assert (trained.model / "trueup_base.json").is_file() and trained.metrics["grad_norm"] > 0


@needs_it
def test_what_has_no_4_bit_form_is_refused() -> None:
    with pytest.raises(TrueupError, match=r"E809.*float64"):
        from_modules(wide().double(), None, lora=LORA)
    with pytest.raises(TrueupError, match=r"E809.*no linear layer"):
        from_modules(gpt2(), None, lora=LORA)
