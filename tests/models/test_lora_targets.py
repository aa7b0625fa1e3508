"""An adapter says the same beside its base and merged, wherever it lies: tied tables, LM heads, experts."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from small_world import prompts, save_model, write
from tiny_models import alone, gemma3, gpt2, gradients, largest_gap, llama, mamba, qwen3_moe, ragged
from trueup.engine.packing import pack
from trueup.errors import TrueupError
from trueup.methods import ppo
from trueup.models import LanguageModel, LoraSettings, from_modules, generate, load, merge, save
from trueup.runs.training import train
from trueup.settings import config as configuration
from trueup.soups.mix import WeightSoup, open_soup

EVERYWHERE = {
    llama: (
        "all-linear",
        "embed_tokens",
        "lm_head",
        ("embed_tokens", "lm_head", "q_proj"),
        r".*(q_proj|head)",
    ),
    gemma3: ("all-linear", "embed_tokens", "lm_head, q_proj"),
    gpt2: ("all-linear", "wte", "wpe", ("lm_head", "c_attn", "wte")),
    qwen3_moe: (
        "all-linear",
        "experts",
        ("gate_up_proj", "q_proj"),
        "down_proj",
        "gate",
        ("lm_head", "gate"),
    ),
    mamba: ("all-linear", "embeddings", ("lm_head", "in_proj"), "x_proj"),
}
TABLES = ("embed_tokens", "lm_head", "wte", "embeddings", "head")


def _lora(targets: Any, **more: Any) -> LoraSettings:
    return LoraSettings(rank=4, alpha=8, targets=targets, **more)


def _logprobs(network: LanguageModel) -> Tensor:
    with torch.no_grad():
        found = network(pack(ragged(2)), ("logprobs",)).logprobs
    assert found is not None
    return found


def _train(network: LanguageModel) -> list[float]:
    """Three steps of likelihood; every matrix of the adapter must get a gradient, B in the first, A then."""
    trained = {n: p for n, p in network.module.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(trained.values(), lr=0.05)
    losses, moved = [], set[str]()
    for _ in range(3):
        now = network(pack(ragged(2)), ("logprobs",)).logprobs
        assert now is not None
        loss = -now.mean()
        loss.backward()
        moved |= {n for n, p in trained.items() if p.grad is not None and bool(p.grad.any())}
        losses.append(loss.item())
        optimizer.step()
        optimizer.zero_grad()
    assert moved == trained.keys()
    return losses


def _based(model: Any, folder: Path, lora: LoraSettings) -> LanguageModel:
    """A network with a fresh adapter over a model that lies in a folder."""
    save(from_modules(model, None), folder)
    return from_modules(AutoModelForCausalLM.from_pretrained(folder), None, lora=lora)


@pytest.mark.parametrize("tied", (False, True))
@pytest.mark.parametrize(
    ("build", "targets"),
    [(b, t) for b, all_of in EVERYWHERE.items() for t in all_of],
    ids=lambda value: value.__name__ if callable(value) else str(value),
)
def test_merged_is_adapter_beside_base(tmp_path: Path, build: Any, targets: Any, tied: bool) -> None:
    """To 1e-5 in log-probs: merged in memory, loaded from its folder, exported and read by transformers."""
    network = _based(build(tie_word_embeddings=tied), tmp_path / "base", _lora(targets))
    before = _logprobs(network)
    losses = _train(network)
    assert losses[-1] < losses[0]
    beside = _logprobs(network)
    assert torch.equal(_logprobs(network.reference()), before)
    whole = merge(network)
    save(network, tmp_path / "adapter")
    save(whole, tmp_path / "whole")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "whole", attn_implementation="eager")
    for found in (
        _logprobs(whole),
        _logprobs(load(tmp_path / "adapter", tokenizer=object())),
        alone(plain, ragged(2)).detach(),
    ):
        assert (found - beside).abs().max().item() <= 1e-5
    names = targets.split(", ") if isinstance(targets, str) else targets
    apart = any(table in name for name in names for table in TABLES)
    says = json.loads((tmp_path / "whole" / "config.json").read_text(encoding="utf-8"))
    assert says.get("tie_word_embeddings", tied) is (tied and not apart)
    assert torch.equal(_logprobs(network), beside), "merging leaves the network as it was"


@pytest.mark.parametrize("form", ({}, {"dora": True}, {"rslora": True}))
@pytest.mark.parametrize("targets", ("embed_tokens", "lm_head"))
def test_other_forms_merge_too(tmp_path: Path, targets: str, form: dict[str, bool]) -> None:
    model = llama(tie_word_embeddings=True)
    model.get_input_embeddings().weight.data[0] = 0.1
    network = _based(model, tmp_path / "base", _lora(targets, **form))
    _train(network)
    assert (_logprobs(merge(network)) - _logprobs(network)).abs().max().item() <= 1e-5


def test_a_tied_table_is_said_to_come_apart(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "trueup"):
        from_modules(llama(tie_word_embeddings=True), None, lora=_lora("all-linear"))
        assert not caplog.messages
        from_modules(llama(tie_word_embeddings=True), None, lora=_lora("embed_tokens"))
    assert len(caplog.messages) == 1 and "tie_word_embeddings: false" in caplog.messages[0]


def test_the_head_with_an_adapter_is_differentiated_as_autograd_does() -> None:
    """Gradients, log-probs, entropies and lists in many small chunks are those of one plain forward."""
    parts: list[dict[str, Tensor]] = []
    for budget in (256.0, 0.002):
        network = from_modules(
            llama(), None, lora=_lora(("lm_head", "q_proj"), dora=True), logits_budget_mib=budget
        )
        for name, p in network.module.named_parameters():
            if "lora_B" in name:
                p.data.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
        said = network(pack(ragged(2)), ("logprobs", "entropy", "distributions", "top:5"))
        assert said.logprobs is not None and said.entropy is not None and said.distributions is not None
        assert said.listed is not None and said.listed_ids is not None
        table = said.distributions
        targets = pack(ragged(2)).targets
        assert torch.allclose(said.logprobs, table.gather(1, targets[:, None])[:, 0], atol=1e-5)
        assert torch.allclose(said.entropy, -(table.exp() * table).sum(-1), atol=1e-5)
        assert torch.allclose(said.listed[:, :5], table.gather(1, said.listed_ids), atol=1e-5)
        weights = torch.linspace(-1, 1, len(said.logprobs))
        parts.append(gradients(network.module, (said.logprobs * weights).sum() + said.listed.sum()))
        again = network(pack(ragged(2)), ("distributions",)).distributions
        assert again is not None
        plain = (again.gather(1, targets[:, None])[:, 0] * weights).sum()
        lists = again.gather(1, said.listed_ids)
        rest = torch.log1p(-lists.exp().sum(-1))
        parts.append(gradients(network.module, plain + lists.sum() + rest.sum()))
    for other in parts[1:]:
        assert largest_gap(parts[0], other) < 2e-4


def test_dropout_beside_the_head_is_the_same_in_the_backward_pass() -> None:
    """The loss moves along its gradient as a finite difference says, with the dropout drawn again alike."""
    network = from_modules(llama(), None, lora=_lora("lm_head", dropout=0.5), logits_budget_mib=0.002)
    network.module.train()
    factor = next(p for n, p in network.module.named_parameters() if "lora_B" in n)

    def loss() -> Tensor:
        torch.manual_seed(5)
        found = network(pack(ragged(2)), ("logprobs",)).logprobs
        assert found is not None
        return found.sum()

    loss().backward()
    assert factor.grad is not None
    step = 1e-3 * factor.grad / factor.grad.norm()
    start = loss().item()
    with torch.no_grad():
        factor += step
    assert loss().item() - start == pytest.approx((factor.grad * step).sum().item(), rel=0.05)


@pytest.mark.parametrize("build", (llama, mamba))
def test_sampling_hears_the_heads_adapter(build: Any) -> None:
    """Greedy text and its log-probs beside the base are those of the merged weights."""
    network = from_modules(build(), None, lora=_lora("lm_head"))
    prompts = [g.prompt_tokens for g in ragged(1) if g.prompt_tokens is not None]
    first = generate(network, prompts, max_new_tokens=8, greedy=True)
    _train(network)
    beside = generate(network, prompts, max_new_tokens=8, greedy=True)
    whole = generate(merge(network), prompts, max_new_tokens=8, greedy=True)
    for (a,), (b,) in zip(beside, whole, strict=True):
        assert a.tokens.tolist() == b.tokens.tolist()
        assert abs(a.logprobs - b.logprobs).max() < 1e-5
    assert [r[0].tokens.tolist() for r in first] != [r[0].tokens.tolist() for r in beside]


@pytest.mark.parametrize(
    ("build", "lora", "says"),
    (
        (
            llama,
            _lora(("q_proj", "c_attn")),
            r"E807 model\.lora\.targets.*no layer is called c_attn .*lm_head",
        ),
        (llama, _lora("wte"), r"E807.*no layer is called wte .*embed_tokens.*q_proj"),
        (llama, _lora("norm"), r"E807.*LlamaRMSNorm can have no adapter.*q_proj"),
        (
            mamba,
            _lora("dt_proj"),
            r"E816 model\.lora\.targets.*dt_proj would do nothing.*in_proj, lm_head, x",
        ),
        (mamba, _lora("out_proj"), r"E807.*out_proj.*in_proj, lm_head, x_proj"),
        (qwen3_moe, _lora("all-linear", dropout=0.1), r"E807.*stacked.*dropout: 0"),
        (qwen3_moe, _lora("experts", dora=True), r"E807.*stacked.*dora: false"),
        # The padding token's row is zero, and this LM head is the table itself.
        (
            partial(llama, tie_word_embeddings=True),
            _lora("lm_head", dora=True),
            r"E816 model\.lora\.dora.*lm_head has rows of zeros.*dora: false",
        ),
    ),
)
def test_what_cannot_have_an_adapter_is_refused(build: Any, lora: LoraSettings, says: str) -> None:
    with pytest.raises(TrueupError, match=says):
        from_modules(build(), None, lora=lora)


def test_a_network_without_a_head_leaves_its_adapter_out() -> None:
    """A critic and a reward model share the policy's settings; on the LM head alone they could not train."""
    made = from_modules(llama(), None, heads=("rewards",), lora=_lora(("lm_head", "q_proj")))
    trained = [n for n, p in made.module.named_parameters() if p.requires_grad and "lora" in n]
    assert len(trained) == 4 and all("q_proj" in n for n in trained)
    with pytest.raises(TrueupError, match=r"E816.*LM head alone.*q_proj"):
        from_modules(llama(), None, heads=("values",), lora=_lora("lm_head"))


@pytest.mark.parametrize("roles", ("separate", "shared"))
def test_ppo_trains_the_heads_adapter_too(tmp_path: Path, roles: str) -> None:
    """The policy's; its critic, which has no LM head, takes the adapter on the body."""
    save_model(tmp_path / "base")
    rows = write(tmp_path / "prompts.jsonl", prompts(4))
    settings: dict[str, Any] = {
        "model": {
            "path": str(tmp_path / "base"),
            "roles": roles,
            "lora": {"rank": 4, "targets": ["lm_head", "embed_tokens", "q_proj"]},
        },
        "data": {"path": str(rows), "held_out": 0.0},
        "judge": "rule:length",
        "decoding": {"max_new_tokens": 4},
        "loop": {"steps": 2, "batch": 2},
        "minibatch": None,
        "update": {"lr": 3e-4},
    }
    trained = train(ppo, configuration.build(ppo.Config, settings, where="test"), tmp_path / "run")
    held = load_file(trained.model / "adapter_model.safetensors")
    layers = {name.removeprefix("base_model.model.").partition(".lora")[0] for name in held}
    assert layers == {"lm_head", "model.embed_tokens", "model.layers.0.self_attn.q_proj"}
    assert all(tensor.any() for name, tensor in held.items() if "lora_B" in name or "embedding_A" in name)


def test_adapters_on_tables_are_mixed_as_whole_weights(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(save_model(tmp_path / "small"))
    for seed in (0, 1):
        network = _based(llama(tie_word_embeddings=True), tmp_path / "base", _lora("embed_tokens"))
        for name, p in network.module.named_parameters():
            if "lora_embedding_A" in name:
                p.data.normal_(std=0.1, generator=torch.Generator().manual_seed(seed))
        save(replace(network, tokenizer=tokenizer), tmp_path / f"expert{seed}")
    soup = open_soup([str(tmp_path / "expert0"), str(tmp_path / "expert1")])
    assert isinstance(soup, WeightSoup)
    table = soup.at((0.5, 0.5)).body.get_parameter("embed_tokens.weight")
    ends = [load(tmp_path / f"expert{n}").body.get_parameter("embed_tokens.weight") for n in (0, 1)]
    assert torch.allclose(table, (ends[0] + ends[1]) / 2, atol=1e-7) and not torch.equal(*ends)
