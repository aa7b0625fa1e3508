"""Activation checkpointing changes what is kept, and no number: log-probs, gradients, every objective."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import small_world
from tiny_models import FAMILIES, gpt2, gradients, llama, mamba, ragged
from trueup.cli import main
from trueup.engine.batch import Batch
from trueup.engine.packing import pack
from trueup.errors import TrueupError
from trueup.models import LanguageModel, attention, from_modules
from trueup.models.recompute import Policy, blocks_of
from trueup.settings.blocks import LoraSettings

POLICIES: tuple[Policy, ...] = ("block", "selective")
LORA = LoraSettings(rank=4, dropout=0.0)
WANTS = ("logprobs", "values", "rewards")


def run(network: LanguageModel, batch: Batch) -> dict[str, Tensor]:
    """What the heads say, and the gradient of a loss that weighs every entry differently."""
    torch.manual_seed(3)
    out = network(batch, WANTS)
    said = {name: getattr(out, name) for name in WANTS}
    loss = sum((v * torch.arange(1, 1 + len(v)).to(v) / len(v)).sum() for v in said.values())
    assert isinstance(loss, Tensor)
    return {**{name: v.detach() for name, v in said.items()}, **gradients(network.module, loss)}


def same(network: LanguageModel, batch: Batch, policy: Policy, most: float = 1e-10) -> None:
    """Nothing; AssertionError unless a policy leaves every number of a run as it was."""
    expected = run(network, batch)
    found = run(replace(network, activation_checkpointing=policy), batch)
    assert found.keys() == expected.keys() and len(found) > 6
    for name, value in expected.items():
        assert (found[name] - value).abs().max() <= most, name


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_architecture(family: str, policy: Policy) -> None:
    """float64, K = 4: windows, soft caps, learned positions and rotary ones."""
    same(from_modules(FAMILIES[family]().double(), None, heads=WANTS), pack(ragged(4)), policy)


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("num_completions", (1, 2, 9))
@pytest.mark.parametrize("family", FAMILIES)
def test_every_architecture_and_size(family: str, num_completions: int, policy: Policy) -> None:
    network = from_modules(FAMILIES[family]().double(), None, heads=WANTS)
    for seed in range(3):
        same(network, pack(ragged(num_completions, seed=seed)), policy)


@pytest.mark.parametrize("policy", POLICIES)
def test_the_padded_path(policy: Policy) -> None:
    """mamba, which cannot be packed, and Llama made to."""
    same(from_modules(mamba().double(), None, heads=WANTS), pack(ragged(2)), policy)
    network = from_modules(llama().double(), None, heads=WANTS)
    same(replace(network, packs=False), pack(ragged(2)), policy)


@pytest.mark.parametrize("policy", POLICIES)
def test_an_adapter_is_on_or_off_as_it_was(policy: Policy) -> None:
    """A network whose adapter is off gives its base's gradient though the backward pass comes after."""
    network = from_modules(llama().double(), None, heads=WANTS, lora=LORA)
    for name, weight in network.module.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight)
    same(network, pack(ragged(3)), policy)
    for weight in network.hf_model.parameters():
        weight.requires_grad_(True)
    same(replace(network, adapter=False), pack(ragged(3)), policy)


@pytest.mark.parametrize("policy", POLICIES)
def test_dropout_falls_on_the_same_entries(policy: Policy) -> None:
    network = from_modules(
        gpt2(resid_pdrop=0.3, embd_pdrop=0.3, attn_pdrop=0.0).double(), None, heads=WANTS, dropout="keep"
    )
    assert network.packs and network.module.training
    batch = pack(ragged(2))
    assert (run(network, batch)["logprobs"] - run(replace(network), batch)["logprobs"]).abs().max() == 0
    same(network, batch, policy)


class _Counted(torch.utils._python_dispatch.TorchDispatchMode):
    """How often an operation is called."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name, self.calls = name, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls += func.name().partition(".")[0] == f"aten::{self.name}"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("policy", "calls"), [("none", 1), ("block", 2), ("selective", 1)])
def test_what_is_run_again(policy: Policy, calls: int) -> None:
    """Attention's forward kernels: once more with `block`, not with `selective`; every pass is the same."""
    network = replace(from_modules(llama(), None), activation_checkpointing=policy)
    batch = pack(ragged(4))
    with _Counted("_scaled_dot_product_flash_attention_for_cpu") as whole, torch.no_grad():
        network(batch, ("logprobs",))
    with _Counted(whole.name) as counted:
        said = network(batch, ("logprobs",)).logprobs
        assert said is not None
        said.sum().backward()
    assert counted.calls == calls * whole.calls > 0


@pytest.mark.parametrize("policy", POLICIES)
def test_a_second_backward_pass(policy: Policy) -> None:
    """A graph that is kept is run through again, to the same gradient."""
    network = replace(from_modules(llama().double(), None), activation_checkpointing=policy)
    said = network(pack(ragged(4)), ("logprobs",)).logprobs
    assert said is not None
    weights = list(network.module.parameters())
    first = torch.autograd.grad(said.sum(), weights, retain_graph=True)
    for one, other in zip(first, torch.autograd.grad(said.sum(), weights), strict=True):
        assert torch.equal(one, other)


def kept_bytes(policy: Policy, num_tokens: int) -> int:
    """Bytes that a forward pass of two completions keeps for its backward pass."""
    group = ragged(2)[0]
    half = replace(group.completions[0], tokens=np.zeros(num_tokens // 4, np.int32))
    prompt = np.zeros(num_tokens // 2, np.int32)
    batch = pack([replace(group, prompt_tokens=prompt, completions=(half, half))])
    network = from_modules(llama(num_hidden_layers=4, max_position_embeddings=4096), None)
    own = {p.untyped_storage().data_ptr() for p in network.module.parameters()}
    seen: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    results: list[attention.Results] = []
    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t), pytest.MonkeyPatch.context() as patch:
        made = attention.Results
        patch.setattr(attention, "Results", lambda: results.append(made()) or results[-1])
        out = replace(network, activation_checkpointing=policy)(
            batch, ("values",) if False else ("logprobs",)
        )
        for out_lse in (pair for one in results for pair in one.found):
            for tensor in out_lse:
                note(tensor)
        assert out.logprobs is not None
    return sum(seen.values())


def test_memory_by_policy() -> None:
    """Per token and layer: none keeps many tensors, `block` one of [d], `selective` that and attention's."""
    per = {p: (kept_bytes(p, 1024) - kept_bytes(p, 512)) / 512 for p in ("none", *POLICIES)}
    assert per["none"] > 5 * per["block"]
    # 4 layers: 4 heads of 8 numbers and one log-sum-exp a head, in float32.
    assert per["selective"] - per["block"] == 4 * (4 * 8 + 4) * 4


def test_modules_are_as_before_and_nothing_is_kept_without_gradient() -> None:
    network = replace(from_modules(llama(), None), activation_checkpointing="block")
    blocks = blocks_of(network.body)
    assert len(blocks) == 2
    network(pack(ragged(2)), ("logprobs",))
    assert all("forward" not in vars(block) for block in blocks)


def test_an_architecture_without_blocks_is_refused() -> None:
    with pytest.raises(TrueupError, match=r"E507.*Linear has no blocks"):
        blocks_of(nn.Linear(2, 2))


def test_a_run_by_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--gradient_checkpointing true` of other toolkits is `block`; every metric of the run is the same."""
    monkeypatch.chdir(small_world.make(tmp_path))
    asked = "train dpo --model.path my-model --data.path preferences.jsonl --loop.steps 2 --loop.batch 4"
    asked += " --update.lr 1e-3 --model.dtype float64"
    lines = {}
    for name, more in {"none": "", "block": "--gradient_checkpointing true"}.items():
        assert main([*asked.split(), *more.split(), "--out", name]) == 0
        lines[name] = (tmp_path / name / "metrics.jsonl").read_text()
    assert lines["none"] == lines["block"]
    said = (tmp_path / "block" / "config.resolved.yaml").read_text()
    assert "activation_checkpointing: block" in said
