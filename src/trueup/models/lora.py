"""LoRA by peft: a frozen base, a small adapter on its linear layers, and the base itself as the reference.

    W x + (alpha / rank) B A x        A random, B = 0: the adapter starts as nothing

(Hu et al. 2021; with `rslora` the factor is alpha / √rank, Kalajdzievski 2023; `dora` trains the columns'
norms apart, Liu et al. 2024.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import peft
import torch
from transformers import PreTrainedModel


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """How large an adapter, on which layers."""

    rank: int = 16
    "Columns of B and rows of A."
    alpha: float = 32.0
    "Strength of the adapter, before division by the rank."
    dropout: float = 0.0
    "Share of the adapter's inputs dropped in training; above 0, step zero differs from the reference."
    targets: str | tuple[str, ...] = "all-linear"
    "Names of the layers to adapt, or all linear layers but the LM head."
    rslora: bool = False
    "Divide alpha by the root of the rank instead of the rank."
    dora: bool = False
    "Train magnitudes apart from directions."


def wrap(model: PreTrainedModel, config: LoraConfig, seed: int) -> Any:
    """The model with a fresh adapter, its base frozen; the random part is a function of the seed."""
    targets = config.targets if isinstance(config.targets, str) else list(config.targets)
    wanted = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,  # pyright: ignore[reportArgumentType]
        lora_dropout=config.dropout,
        target_modules=targets,
        use_rslora=config.rslora,
        use_dora=config.dora,
        task_type="CAUSAL_LM" if model.get_output_embeddings() is not None else "FEATURE_EXTRACTION",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return peft.get_peft_model(model, wanted)
