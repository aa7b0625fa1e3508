"""Models that say one text, and plain transformers asking a folder for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

QUESTION = "what is 1?"


def chain(tokenizer: Any, ids: list[int]) -> LlamaForCausalLM:
    """A model in which each of these tokens is followed by the next, the last by itself, and so greedily."""
    size = len(tokenizer)
    config = LlamaConfig(
        vocab_size=size, hidden_size=size, intermediate_size=4, num_hidden_layers=1, num_attention_heads=1,
        num_key_value_heads=1, head_dim=4, max_position_embeddings=8192, tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(torch.eye(size))
        for parameter in (*model.model.layers.parameters(), model.lm_head.weight):
            parameter.zero_()
        for one, following in zip(ids, [*ids[1:], ids[-1]], strict=True):
            model.lm_head.weight[following, one] = 1.0
    return model


def generated(folder: Path, *, chats: bool = True, most: int = 12) -> list[int]:
    """What plain transformers adds to the question, greedily, with nothing said but the folder."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    if chats:
        turns = [{"role": "user", "content": QUESTION}]
        asked = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt")
    else:
        asked = tokenizer(QUESTION, return_tensors="pt")
    out = model.generate(**asked, max_new_tokens=most, do_sample=False)
    return out[0, asked["input_ids"].shape[1] :].tolist()
