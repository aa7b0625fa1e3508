"""Prints the tables of results/memory.md: python scripts/measure_memory.py [TOKENS ...]

A random Llama of 98 million weights in float32, two completions after a shared prompt: half of the row's
tokens are the prompt's. Each figure is the peak of a process of its own, above what it held before the pass,
weights and gradients.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from dataclasses import replace

POLICIES = ("none", "selective", "block")
TOKENS = (512, 1024, 2048, 4096)
SIZE = {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 12}


def step(policy: str, num_tokens: int) -> dict[str, float]:
    """Peak bytes of one forward and backward pass above the weights and gradients, and its seconds."""
    import numpy as np
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from trueup.engine.groups import Completion, Group
    from trueup.engine.packing import pack
    from trueup.models import from_modules

    torch.manual_seed(0)
    torch.set_num_threads(2)
    shape = {**SIZE, "num_key_value_heads": 12, "vocab_size": 8192, "max_position_embeddings": 65536}
    model = LlamaForCausalLM(LlamaConfig(**shape))  # pyright: ignore[reportArgumentType]
    network = replace(from_modules(model, None), activation_checkpointing=policy)
    for weight in network.module.parameters():
        weight.grad = torch.zeros_like(weight)
    rng = np.random.default_rng(0)

    def drawn(length: int) -> np.ndarray:
        return rng.integers(0, 8192, length).astype(np.int32)

    halves = tuple(Completion(text="", tokens=drawn(num_tokens // 4)) for _ in range(2))
    batch = pack([Group(prompt=(), prompt_tokens=drawn(num_tokens // 2), completions=halves)])
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    logprobs = network(batch, ("logprobs",)).logprobs
    assert logprobs is not None
    logprobs.mean().backward()
    seconds = time.perf_counter() - began
    return {"bytes": 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before), "seconds": seconds}


def main(sizes: list[int]) -> None:
    """Prints one line for each number of tokens."""
    print("| tokens | " + " | ".join(f"{p}, MB" for p in POLICIES) + " | seconds |\n|" + "---|" * 5)
    for num_tokens in sizes:
        found = []
        for policy in POLICIES:
            command = [sys.executable, __file__, "--step", policy, str(num_tokens)]
            found.append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
        row = " | ".join(f"{f['bytes'] / 1e6:.0f}" for f in found)
        seconds = ", ".join(f"{f['seconds']:.1f}" for f in found)
        print(f"| {num_tokens:,} | {row} | {seconds} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--step"]:
        print(json.dumps(step(sys.argv[2], int(sys.argv[3]))))
    else:
        main([int(size) for size in sys.argv[1:]] or list(TOKENS))
