"""A person's own folder: a small random model, pairs, prompts by split, a judge in Python, a world's file."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import gguf_files
import small_world

GRADE = """
def short(prompt, text):
    return 1.0 / (1 + len(text))


def vowels(prompt, text):
    return float(sum(letter in "aeiou" for letter in text))
"""
WORLD = """
prompts: {train: train.jsonl, dev: dev.jsonl, test: test.jsonl}
comparisons: pairs.jsonl
base: BASE
judges: {vowels: "grade.py:vowels", short: "grade.py:short"}
truth: short
"""
COMPARISON = """
name: mine
seeds: [1, 2]
sweep_seed: 0
choose: {split: dev, num_prompts: 4, decoding: {max_new_tokens: 6}}
report: {split: test, num_prompts: 6, decoding: {max_new_tokens: 6}}
shared:
  sft:
    data: {path: "world:comparisons", held_out: 0}
    loop: {steps: 1, batch: 4}
methods:
  dpo:
    model: {path: "stage:sft"}
    data: {path: "world:comparisons", held_out: 0}
    loop: {steps: 1, batch: 4}
    sweep: {beta: [0.1, 0.5]}
  rloo:
    model: {path: "stage:sft"}
    judge: "world:truth"
    data: {path: "world:prompts", split: train, held_out: 0}
    decoding: {max_new_tokens: 6}
    loop: {steps: 1, batch: 2}
"""


def make(folder: Path, *, gguf: bool = False) -> Path:
    """The folder, with `world.yaml`, `mine.yaml`, `pairs.jsonl`, prompts, `grade.py` and a model."""
    folder.mkdir(parents=True, exist_ok=True)
    base = gguf_files.write(folder / "small.gguf")[0] if gguf else small_world.save_model(folder / "model-a")
    pairs = [
        {
            "chosen": f"\n\nHuman: What is {i}?\n\nAssistant: It is {i}.",
            "rejected": f"\n\nHuman: What is {i}?\n\nAssistant: No.",
        }
        for i in range(8)
    ]
    small_world.write(folder / "pairs.jsonl", pairs)
    for split in ("train", "dev", "test"):
        rows = [{"prompt": f"{split} asks {i}?"} for i in range(8)]
        small_world.write(folder / f"{split}.jsonl", rows)
    (folder / "grade.py").write_text(GRADE, encoding="utf-8")
    (folder / "world.yaml").write_text(WORLD.replace("BASE", base.name), encoding="utf-8")
    (folder / "mine.yaml").write_text(COMPARISON, encoding="utf-8")
    return folder


def add_changed(folder: Path) -> Path:
    """The folder with `model-a`, and `model-b` that has other weights in its head."""
    small_world.save_model(folder / "model-a")
    changed = AutoModelForCausalLM.from_pretrained(folder / "model-a")
    torch.manual_seed(1)
    with torch.no_grad():
        changed.lm_head.weight.add_(0.5 * torch.randn_like(changed.lm_head.weight))
    changed.save_pretrained(folder / "model-b")
    AutoTokenizer.from_pretrained(folder / "model-a").save_pretrained(folder / "model-b")
    return folder
