"""Prints the tables of results/four-roles.md: python scripts/measure_roles.py [nf4] [SIZE ...]

Random Llamas of about 5, 30 and 95 million weights: one PPO update with a reward model as judge, each network
an adapter of some rank, and one SFT update with such an adapter beside it. With `nf4`, over bases in 4 bits.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from held_bytes import held
from trueup.engine.loop import Progress, fit
from trueup.engine.method import Handles, Parts, Rule
from trueup.judges.open import open_judge
from trueup.judges.reward_model import RewardModelJudge
from trueup.models import from_modules, load, save
from trueup.models.opening import model_path, open_chat, open_networks, open_shared
from trueup.settings import config as configuration
from trueup.settings.blocks import LoraSettings
from trueup.settings.discover import find
from trueup.sources.open import open_groups

SIZES = {"5M": (256, 704, 5), "30M": (512, 1408, 8), "95M": (768, 2048, 12)}
"Hidden size, inner size and layers; heads have 64 entries."
VOCABULARY = 8192
RANKS = (4, 16, 64)


@final
class Weighed:
    """A keeper that keeps nothing, and weighs the run after its last update."""

    def __init__(self, networks: Mapping[str, Any]) -> None:
        self._networks = networks
        self.bytes: dict[str, int] = {}

    def restore(self, handles: Handles, rule: Rule) -> Progress | None:
        return None

    def after_update(self, progress: Progress, handles: Handles, rule: Rule) -> None:
        pass

    def after_step(
        self, progress: Progress, metrics: Mapping[str, float], handles: Handles, rule: Rule
    ) -> bool:
        self.bytes = held(self._networks, rule)
        return False


def build_base(size: str, folder: Path) -> int:
    """Saves a random Llama with the lab's tokenizer; gives its number of weights."""
    torch.manual_seed(0)
    hidden, inner, layers = SIZES[size]
    model = LlamaForCausalLM(
        LlamaConfig(
            hidden_size=hidden,
            intermediate_size=inner,
            num_hidden_layers=layers,
            num_attention_heads=hidden // 64,
            num_key_value_heads=hidden // 64,
            vocab_size=VOCABULARY,
            max_position_embeddings=512,
            tie_word_embeddings=True,
        )
    )
    network = from_modules(model, AutoTokenizer.from_pretrained(model_path("lab:base")))
    save(network, folder)
    return sum(p.numel() for p in network.module.parameters())


def weigh(
    method_name: str, base: Path, lora: dict[str, Any], roles: str, judge: Path | None = None
) -> dict[str, int]:
    """Bytes held after one update of a run whose networks all have such adapters."""
    module = find(method_name)
    settings: dict[str, Any] = {
        "model": {"path": str(base), "lora": lora, "roles": roles},
        "data": {"limit": 4, "held_out": 0.0},
        "loop": {"steps": 1, "batch": 2},
        "update": {"lr": 3e-4},
    }
    if judge is not None:
        settings |= {"judge": str(judge), "decoding": {"max_new_tokens": 4}, "epochs_per_step": 1}
    config = configuration.build(vars(module)["Config"], settings, where="settings")
    chat = open_chat(config.model)
    with tempfile.TemporaryDirectory() as aside:
        opened = open_groups(config.data, chat, seed=0, quarantine=Path(aside) / "quarantine.jsonl")
    parts = Parts(
        groups=opened.train,
        held_out=[],
        decode=chat.decode,
        stop_ids=chat.stop_ids,
        prompt_ids=chat.prompt_ids,
    )
    method = vars(module)["build"](config, parts)
    shared = open_shared(method, config.model, torch.device("cpu"))
    networks: dict[str, Any] = open_networks(method, config.model, torch.device("cpu"), seed=0, base=shared)
    asked = open_judge(method.judge, base=shared) if method.judge else None
    weighed = Weighed(networks | ({"judge": asked.network} if isinstance(asked, RewardModelJudge) else {}))
    handles = Handles(networks=networks, judge=asked)
    fit(method, handles, num_steps=1, groups_per_step=2, keeper=weighed)
    return weighed.bytes


def reward_adapter(base: Path, lora: dict[str, Any], folder: Path) -> Path:
    """A reward model as an adapter on the base, as the method `reward_model` leaves one."""
    return save(load(base, heads=("rewards",), lora=LoraSettings(**lora)), folder)


def main(sizes: list[str], quantise: str) -> None:
    """Prints a row for each size and rank."""
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    print("| weights | rank | SFT, MB | PPO separate, MB | PPO shared, MB | separate / SFT | shared / SFT |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        for size in sizes:
            base = Path(scratch) / size
            weights = build_base(size, base)
            for rank in RANKS:
                lora = {"rank": rank, "quantise": quantise}
                judge = reward_adapter(base, lora, Path(scratch) / f"{size}-{rank}")
                sft = weigh("sft", base, lora, "separate")["total"]
                apart, shared = (weigh("ppo", base, lora, r, judge)["total"] for r in ("separate", "shared"))
                cells = [f"{x / 1e6:.1f}" for x in (sft, apart, shared)]
                ratios = [f"{apart / sft:.2f}", f"{shared / sft:.2f}"]
                print(
                    "|", " | ".join([f"{weights / 1e6:.1f} M", str(rank), *cells, *ratios]), "|", flush=True
                )


if __name__ == "__main__":
    asked = sys.argv[1:]
    main([size for size in asked if size in SIZES] or list(SIZES), "nf4" if "nf4" in asked else "none")
