"""A tiny Llama as a GGUF file, written by the format's own library as llama.cpp's converter lays it out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from small_world import TEMPLATE

LAYER = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
REST = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
HEADS = 2
MERGE = ("Ġ", "t")
MARKS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def model_of(tokenizer: Any) -> LlamaForCausalLM:
    """The random model that `write` writes: rows of 32 numbers, a multiple of what Q8_0 takes together."""
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=HEADS,
            num_key_value_heads=HEADS,
            max_position_embeddings=512,
            initializer_range=0.2,
            tie_word_embeddings=False,
        )
    )


def tokenizer_of() -> PreTrainedTokenizerFast:
    """Bytes, one merge (a file without any is read otherwise), and ChatML."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {word: i for i, word in enumerate([*alphabet, "".join(MERGE)])}
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=[MERGE]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens([AddedToken(mark, normalized=False, special=True) for mark in MARKS])
    made = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    made.chat_template = TEMPLATE
    return made


def write(path: Path, *, quantised: bool = False) -> tuple[Path, Any, LlamaForCausalLM]:
    """The file, the tokenizer and the model that it holds; `quantised` keeps matrices in 8 bits (Q8_0)."""
    import gguf

    tokenizer = tokenizer_of()
    model = model_of(tokenizer)
    writer = gguf.GGUFWriter(path, "llama")
    config = model.config
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(len(tokenizer))
    words = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(words)
    writer.add_token_types([3 if word in MARKS else 1 for word in words])
    writer.add_token_merges([" ".join(MERGE)])
    writer.add_eos_token_id(tokenizer.convert_tokens_to_ids("<|im_end|>"))
    writer.add_bos_token_id(tokenizer.convert_tokens_to_ids("<|endoftext|>"))
    writer.add_pad_token_id(tokenizer.convert_tokens_to_ids("<|endoftext|>"))
    writer.add_chat_template(TEMPLATE)
    for name, tensor in model.state_dict().items():
        held = tensor.numpy()
        if ".q_proj" in name or ".k_proj" in name:
            held = _interleaved(held)
        if quantised and held.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(_named(name), gguf.quants.quantize(held, kind), raw_dtype=kind)
        else:
            writer.add_tensor(_named(name), held)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path, tokenizer, model


def _named(name: str) -> str:
    bare = name.removesuffix(".weight")
    if bare in REST:
        return f"{REST[bare]}.weight"
    _, _, number, layer = bare.split(".", 3)
    return f"blk.{number}.{LAYER[layer]}.weight"


def _interleaved(matrix: np.ndarray) -> np.ndarray:
    """Rows of each head's two halves in turn: llama.cpp rotates neighbours, transformers halves."""
    rows, columns = matrix.shape
    halves = matrix.reshape(HEADS, 2, rows // HEADS // 2, columns)
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows, columns))
