"""Prints the table of results/float32.md: python scripts/measure_float32.py MODEL_FOLDER STORIES.txt.gz"""

from __future__ import annotations

import gzip
import sys
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from trueup.engine.groups import Completion, Group
from trueup.engine.packing import pack
from trueup.models import LanguageModel, load


def cut(tokenizer: object, texts: list[str], k: int) -> list[Group]:
    """Groups whose first completion is the story's own and whose others are other stories'."""

    def ids(text: str, most: int) -> list[int]:
        return tokenizer(text.strip()[:most], add_special_tokens=False).input_ids  # pyright: ignore

    groups = []
    for i, text in enumerate(texts):
        own = ids(text, 600)
        rest = [own[20:]] + [ids(texts[(i + j) % len(texts)], 300)[j:] for j in range(1, k)]
        completions = tuple(Completion(text="", tokens=np.array(t, np.int32)) for t in rest)
        prompt = np.array([1, *own[:20]], np.int32)
        groups.append(Group(prompt=(), prompt_tokens=prompt, completions=completions))
    return groups


@torch.no_grad()
def packed(network: LanguageModel, groups: list[Group]) -> Tensor:
    """Four groups in a row."""
    parts = [network(pack(groups[i : i + 4]), ("logprobs",)).logprobs for i in range(0, len(groups), 4)]
    return torch.cat([part for part in parts if part is not None]).double()


@torch.no_grad()
def by_transformers(network: LanguageModel, groups: list[Group], attention: str) -> Tensor:
    """Each sequence alone through the model's own forward."""
    network.hf_model.set_attn_implementation(attention)
    out = []
    for group in groups:
        for completion in group.completions:
            ids = torch.from_numpy(np.concatenate([group.prompt_tokens, completion.tokens])).long()  # pyright: ignore
            start = len(group.prompt_tokens)  # pyright: ignore
            table = network.hf_model(input_ids=ids[None]).logits[0].log_softmax(-1)
            out.append(table[start - 1 : -1].gather(1, ids[start:, None])[:, 0])
    return torch.cat(out).double()


def main(folder: str, stories: str) -> None:
    """Prints one row of the table for each K."""
    with gzip.open(stories, "rt", encoding="utf-8") as file:
        texts = file.read(400_000).split("<|endoftext|>")[:60]
    print("K tokens packed-alone packed-sdpa sdpa-eager packed-float64 sdpa-float64 shares above 1e-5")
    for k in (1, 2, 4, 9):
        exact = load(folder, dtype="float64")
        groups = cut(exact.tokenizer, texts, k)
        truth = packed(exact, groups)
        network = load(folder, dtype="float32")
        ours = packed(network, groups)
        singly = [replace(g, completions=(c,)) for g in groups for c in g.completions]
        alone = torch.cat([packed(network, [group]) for group in singly])
        sdpa, eager = (by_transformers(network, groups, name) for name in ("sdpa", "eager"))
        pairs = [(ours, alone), (ours, sdpa), (sdpa, eager), (ours, truth), (sdpa, truth)]
        gaps = [f"{(a - b).abs().max().item():.1e}" for a, b in pairs]
        shares = [f"{((x - sdpa).abs() > 1e-5).double().mean().item():.4%}" for x in (ours, eager)]
        print(k, len(truth), *gaps, *shares)


if __name__ == "__main__":
    main(*sys.argv[1:3])
