"""Small random decoders of several families, ragged groups for them, and plain transformers as oracle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from trueup.engine.groups import Comparison, Completion, Group

VOCABULARY = 61
SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    # Large enough weights that attention matters: a leak between completions shows.
    "initializer_range": 0.2,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
GEMMA: dict[str, Any] = {**SMALL, "head_dim": 8, "sliding_window": 6, "query_pre_attn_scalar": 16}


def llama(**changes: Any) -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**{**SMALL, **changes}))


def qwen2() -> Qwen2ForCausalLM:
    torch.manual_seed(0)
    return Qwen2ForCausalLM(Qwen2Config(**SMALL))


def qwen3() -> Qwen3ForCausalLM:
    torch.manual_seed(0)
    return Qwen3ForCausalLM(Qwen3Config(**SMALL, head_dim=16))


def qwen3_moe(**changes: Any) -> Qwen3MoeForCausalLM:
    torch.manual_seed(0)
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
    return Qwen3MoeForCausalLM(Qwen3MoeConfig(**{**SMALL, **changes}, head_dim=16, **experts))


def mistral() -> MistralForCausalLM:
    torch.manual_seed(0)
    return MistralForCausalLM(MistralConfig(**SMALL, head_dim=8, sliding_window=7))


def gpt2(**changes: Any) -> GPT2LMHeadModel:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=128,
        initializer_range=0.2,
        bos_token_id=0,
        eos_token_id=1,
        **changes,
    )
    return GPT2LMHeadModel(config)


def gemma2() -> Gemma2ForCausalLM:
    torch.manual_seed(0)
    return Gemma2ForCausalLM(Gemma2Config(**GEMMA, attn_logit_softcapping=2.0, final_logit_softcapping=3.0))


def gemma3(**changes: Any) -> Gemma3ForCausalLM:
    torch.manual_seed(0)
    return Gemma3ForCausalLM(
        Gemma3TextConfig(**{**GEMMA, **changes}, layer_types=["sliding_attention", "full_attention"])
    )


def mamba(**changes: Any) -> MambaForCausalLM:
    torch.manual_seed(0)
    size = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4}
    # The time step's own initial range would leave the state space without a say.
    return MambaForCausalLM(MambaConfig(**size, pad_token_id=0, initializer_range=0.2, **changes))


FAMILIES = {
    "llama": llama,
    "qwen3": qwen3,
    "mistral": mistral,
    "gpt2": gpt2,
    "gemma2": gemma2,
    "gemma3": gemma3,
}


def ragged(num_completions: int, *, seed: int = 0, num_groups: int = 3) -> list[Group]:
    """Groups of K completions, lengths from 1 token to well past every sliding window here."""
    generator = np.random.default_rng([seed, num_completions])

    def draw(low: int, high: int) -> np.ndarray:
        return generator.integers(0, VOCABULARY, generator.integers(low, high)).astype(np.int32)

    groups = []
    for number in range(num_groups):
        completions = tuple(Completion(text="", tokens=draw(1, 22)) for _ in range(num_completions))
        chosen = (Comparison(a=0, b=1, choice="a"),) if num_completions > 1 else ()
        prompt = draw(1, 2) if number == 0 else draw(2, 30)
        groups.append(Group(prompt=(), prompt_tokens=prompt, completions=completions, comparisons=chosen))
    return groups


def sequences(groups: Sequence[Group]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Every completion with its prompt."""
    found = []
    for group in groups:
        for completion in group.completions:
            assert group.prompt_tokens is not None and completion.tokens is not None
            found.append((group.prompt_tokens, completion.tokens))
    return found


def alone(model: Any, groups: Sequence[Group]) -> torch.Tensor:
    """Log-probs [T] with gradient, each sequence run by itself through transformers' own forward."""
    found = []
    for prompt, completion in sequences(groups):
        ids = torch.from_numpy(np.concatenate([prompt, completion]).astype(np.int64))[None]
        logits = model(input_ids=ids, use_cache=False).logits[0]
        wide = torch.promote_types(logits.dtype, torch.float32)
        table = torch.log_softmax(logits.to(wide), -1)[len(prompt) - 1 : -1]
        found.append(table.gather(1, ids[0, len(prompt) :, None])[:, 0])
    return torch.cat(found)


def gradients(module: torch.nn.Module, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    """The loss's gradient by parameter name; the module's own are left clear."""
    module.zero_grad()
    loss.backward()
    found = {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}
    module.zero_grad()
    return found


def largest_gap(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """The largest absolute difference between two sets of gradients of the same parameters."""
    assert a.keys() == b.keys() and len(a) > 0
    return max((a[name] - b[name]).abs().max().item() for name in a)
