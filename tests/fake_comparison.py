"""A made-up comparison: every number here is invented, to have something to draw."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

FAMILIES = {
    "imitation": "supervised", "dpo": "contrastive", "ipo": "contrastive", "simpo": "contrastive",
    "kto": "contrastive", "rrhf": "contrastive", "raft": "reinforcement", "online_dpo": "contrastive",
    "reinforce": "reinforcement", "rloo": "reinforcement", "grpo": "reinforcement", "ppo": "reinforcement",
    "trpo": "reinforcement", "distill": "distillation",
}  # fmt: skip
SEEDS = (1, 2, 3)


def write_fake_comparison(folder: Path, *, text: str = "", seed: int = 0) -> Path:
    """`folder` with a `comparison.json`; `text` is put into every string that a person or a model wrote."""
    folder.mkdir(parents=True, exist_ok=True)
    value = fake_comparison(np.random.default_rng(seed), text)
    (folder / "comparison.json").write_text(json.dumps(value), encoding="utf-8")
    return folder


def fake_comparison(rng: np.random.Generator, text: str = "") -> dict[str, Any]:
    """14 methods over three seeds; `ppo` gains most, `dpo` is close, `kto` loses."""
    rows = [_row(rng, place, name, family, text) for place, (name, family) in enumerate(FAMILIES.items())]
    best = max(rows, key=lambda row: row["gain"]["mean"])
    for row in rows:
        gap = np.subtract(best["gain_by_seed"], row["gain_by_seed"])
        row["behind_best"] = None if row is best else _interval(gap)
    names = ["sft", *FAMILIES]
    return {
        "comparison": {
            "name": f"made up{text}",
            "seeds": list(SEEDS),
            "budget": 2.5e12,
            "shared": {"sft": {"data": {"path": f"lab:demonstrations{text}"}}},
            "methods": {f"{name}{text}": {"loop": {"steps": 40}} for name in FAMILIES},
        },
        "num_prompts": 500,
        "start": {
            "method": f"sft{text}",
            "chosen": "update.lr=0.001",
            "candidates": {"update.lr=0.0003": 0.44, "update.lr=0.001": 0.46},
            "gold_by_seed": [0.45, 0.46, 0.47],
            "length": 9.6,
        },
        "methods": rows,
        "samples": [
            {
                "prompt": f"What is {place} plus one?{text}",
                "replies": {
                    f"{name}{text}": {"text": f"{name} says {place + 1}{text}", "gold": float(rng.random())}
                    for name in names
                },
            }
            for place in range(4)
        ],
        "failed": {f"hir-seed1{text}": f"error E901 loss is not finite{text}"},
    }


def _row(rng: np.random.Generator, place: int, name: str, family: str, text: str) -> dict[str, Any]:
    gain = {"ppo": 0.21, "dpo": 0.2, "kto": -0.09}.get(name, 0.02 + 0.012 * place)
    by_seed = gain + (0.004 if name in ("ppo", "kto") else 0.012) * rng.normal(size=len(SEEDS))
    kl = {"ppo": 5.0, "dpo": 2.2}.get(name, 0.4 + 0.35 * place)
    mean = float(by_seed.mean())
    return {
        "method": f"{name}{text}",
        "family": family,
        "chosen": f"update.lr=0.0003{text}",
        "candidates": {
            f"update.lr=0.0001{text}": 0.5,
            f"update.lr=0.0003{text}": 0.55,
            "update.lr=0.001": None,
        },
        "gold": 0.46 + mean,
        "gold_over_prompts": {"mean": 0.46 + mean, "ci95": [0.44 + mean, 0.48 + mean]},
        "gain": _interval(by_seed),
        "gain_by_seed": by_seed.tolist(),
        "over_prompts": {"mean": mean, "ci95": [mean - 0.03, mean + 0.03]},
        "proxy": 1.5 + 4 * mean + (2.0 if name == "kto" else 0.0),
        "kl": kl,
        "kl_error": 0.1 * math.sqrt(kl),
        "scores": {"helpful": 0.6, "honest": 0.8, "harmless": 0.95, "ended": 1.0},
        "length": 9.0 + 0.3 * place,
        "tax": {
            f"last_word{text}": {
                "mean": -0.005 * place,
                "ci95": [-0.005 * place - 0.02, -0.005 * place + 0.02],
            },
            f"ethics{text}": {"mean": 0.01, "ci95": [-0.02, 0.04]},
        },
        "tokens_trained": 118_000,
        "tokens_sampled": 0 if family in ("supervised", "contrastive") else 118_000,
        "seconds": 40.0 + 9.0 * place,
    }


def _interval(values: Any) -> dict[str, Any]:
    mean, half = float(np.mean(values)), 4.303 * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return {"mean": mean, "ci95": [mean - half, mean + half], "n": len(values)}
