"""A model small enough to train in a second, with its tokenizer, and data files that it can learn from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

TEMPLATE = """{%- for m in messages -%}
<|im_start|>{{ m.role }}{{ "\\n" }}{{ m.content }}<|im_end|>{{ "\\n" }}
{%- endfor -%}
{%- if add_generation_prompt -%}<|im_start|>assistant{{ "\\n" }}{%- endif -%}"""


def save_model(folder: Path) -> Path:
    """The folder, with a random one-layer Llama that reads bytes and knows ChatML."""
    raw = Tokenizer(
        models.BPE(vocab={c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, merges=[])
    )
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    marks = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    raw.add_special_tokens([AddedToken(mark, normalized=False, special=True) for mark in marks])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=1024,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=None,
        )
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def demonstrations(num: int = 16) -> list[dict[str, Any]]:
    """Prompts with one good answer each."""
    return [{"prompt": f"what is {i}?", "completion": f"it is {i}"} for i in range(num)]


def preferences(num: int = 16) -> list[dict[str, Any]]:
    """Prompts with a chosen and a rejected answer."""
    return [{"prompt": f"what is {i}?", "chosen": f"it is {i}", "rejected": f"no {i}"} for i in range(num)]


def prompts(num: int = 8) -> list[dict[str, Any]]:
    """Prompts alone."""
    return [{"prompt": f"what is {i}?"} for i in range(num)]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """The path, with one row a line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def make(folder: Path) -> Path:
    """The folder, with `my-model/`, `demos.jsonl`, `preferences.jsonl` and `prompts.jsonl` in it."""
    folder.mkdir(parents=True, exist_ok=True)
    save_model(folder / "my-model")
    write(folder / "demos.jsonl", demonstrations())
    write(folder / "preferences.jsonl", preferences())
    write(folder / "prompts.jsonl", prompts())
    return folder
