"""One small random model of each architecture, with a tokenizer and a template of its family's real shape."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    FalconH1Config,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    Olmo2Config,
    Phi3Config,
    Qwen3Config,
    Qwen3MoeConfig,
)

from chat_shapes import MISTRAL_TOKENS, byte_level, metaspace

SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
}
GEMMA: dict[str, Any] = {**SMALL, "head_dim": 8, "sliding_window": 16, "query_pre_attn_scalar": 16}
OLMO2 = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] != 'assistant' %}"
    "{{ '<|' + message['role'] + '|>\n' + message['content'] + '\n' }}{% else %}"
    "{{ '<|assistant|>\n' + message['content'] + eos_token }}{% if not loop.last %}{{ '\n' }}{% endif %}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
FALCON = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@dataclass(frozen=True, kw_only=True)
class Family:
    """An architecture as people meet it."""

    tokenizer: Callable[[], Any]
    config: Callable[..., Any]
    stop: str
    "What ends a turn, which is not always the tokenizer's end token."
    shape: dict[str, Any]
    template: str = ""
    "A template of an installed library by its file's name, or Jinja; nothing for a base model."


def _qwen() -> Any:
    plain = ("<think>", "</think>", "<tool_response>", "</tool_response>")
    return byte_level(("<|endoftext|>", "<|im_start|>", "<|im_end|>"), plain, eos="<|im_end|>")


def _llama3() -> Any:
    heads = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
    return byte_level(heads, bos=heads[0], eos=heads[1])


def _gemma() -> Any:
    turns = ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>")
    return metaspace(turns, kind="replace", bos="<bos>", eos="<eos>")


def _mistral() -> Any:
    return metaspace(("[INST]", "[/INST]"), kind="metaspace-first")


def _phi3() -> Any:
    return metaspace(
        ("<|endoftext|>", "<|assistant|>", "<|end|>", "<|user|>", "<|system|>"), eos="<|endoftext|>"
    )


def _olmo2() -> Any:
    return byte_level(
        ("<|endoftext|>", "<|user|>", "<|assistant|>", "<|system|>"), bos="<|endoftext|>", eos="<|endoftext|>"
    )


def _falcon() -> Any:
    marks = ("<|begin_of_text|>", "<|end_of_text|>", "<|im_start|>", "<|im_end|>")
    return byte_level(marks, bos=marks[0], eos=marks[1])


def _plain() -> Any:
    return byte_level(("<|endoftext|>",), eos="<|endoftext|>")


ROPE = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0}
ROPE |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 128}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
SCAN = {"mamba_d_ssm": 64, "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_chunk_size": 16}
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256, "initializer_range": 0.2}
TIED = {"tie_word_embeddings": True}
FAMILIES: dict[str, Family] = {
    "qwen3": Family(
        tokenizer=_qwen, config=Qwen3Config, stop="<|im_end|>", template="qwen3",
        shape={**SMALL, "head_dim": 16},
    ),
    "qwen3-moe": Family(
        tokenizer=_qwen, config=Qwen3MoeConfig, stop="<|im_end|>", template="qwen3_instruct_2507",
        shape={**SMALL, "head_dim": 16, **EXPERTS},
    ),
    "llama3": Family(
        tokenizer=_llama3, config=LlamaConfig, stop="<|eot_id|>", template="llama3",
        shape={**SMALL, "rope_parameters": ROPE, **TIED},
    ),
    "gemma2": Family(
        tokenizer=_gemma, config=Gemma2Config, stop="<end_of_turn>", template="gemma",
        shape={**GEMMA, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
    ),
    "gemma3": Family(
        tokenizer=_gemma, config=Gemma3TextConfig, stop="<end_of_turn>", template="gemma3",
        shape={**GEMMA, "layer_types": ["sliding_attention", "full_attention"]},
    ),
    "mistral": Family(
        tokenizer=_mistral, config=MistralConfig, stop="</s>", template=MISTRAL_TOKENS,
        shape={**SMALL, "head_dim": 8, "sliding_window": 16},
    ),
    "phi3": Family(
        tokenizer=_phi3, config=Phi3Config, stop="<|end|>", template="phi3",
        shape={**SMALL, "sliding_window": 16, "pad_token_id": 0},
    ),
    "olmo2": Family(
        tokenizer=_olmo2, config=Olmo2Config, stop="<|endoftext|>", template=OLMO2,
        shape={**SMALL, "pad_token_id": 0},
    ),
    "falcon-h1": Family(
        tokenizer=_falcon, config=FalconH1Config, stop="<|im_end|>", template=FALCON,
        shape={**SMALL, "head_dim": 8, **SCAN},
    ),
    "gpt2": Family(tokenizer=_plain, config=GPT2Config, stop="<|endoftext|>", shape=GPT2),
    "mamba": Family(
        tokenizer=_plain, config=MambaConfig, stop="<|endoftext|>",
        shape={"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8, "initializer_range": 0.2},
    ),
}  # fmt: skip


def save_family(name: str, folder: Path) -> Path:
    """The folder, with the family's random model, its tokenizer and the template that it ships."""
    family = FAMILIES[name]
    tokenizer = family.tokenizer()
    if family.template:
        tokenizer.chat_template = family.template if "{" in family.template else _shipped(family.template)
    size = -(-len(tokenizer) // 8) * 8
    end, begin = tokenizer.eos_token_id, tokenizer.bos_token_id
    given = {"vocab_size": size, "eos_token_id": end, "bos_token_id": begin, "pad_token_id": end}
    config = family.config(**{**given, **family.shape})
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@cache
def _shipped(name: str) -> str:
    """A template as TRL keeps it for the models of a family, read without importing TRL."""
    found = importlib.util.find_spec("trl")
    assert found is not None and found.submodule_search_locations is not None
    folder = Path(found.submodule_search_locations[0]) / "chat_templates"
    return (folder / f"{name}.jinja").read_text(encoding="utf-8")
