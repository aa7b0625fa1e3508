"""A made-up measurement: every number here is invented, to have something to draw."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

MODELS = ("dpo", "ppo", "kto")
EXAMS = ("lambada", "hellaswag", "truthfulqa_mc2")
GAINS = {"sft": 0.0, "dpo": 0.128, "ppo": 0.031, "kto": -0.062}
KL = {"dpo": 1.19, "ppo": 4.4, "kto": 0.52}


def write_fake_measure(folder: Path, *, text: str = "", models: Sequence[str] = MODELS) -> Path:
    """`folder` with a `measure.json`; `text` is put into every string that a person or a model wrote."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "measure.json").write_text(json.dumps(fake_measure(text, models)), encoding="utf-8")
    return folder


def fake_measure(text: str = "", models: Sequence[str] = MODELS) -> dict[str, Any]:
    """`dpo` gains, `kto` loses; `ppo` pleases `reward`, which trained it and `dpo`, and not the truth."""
    rng = np.random.default_rng(0)
    judges = [f"rules{text}", f"reward{text}"]
    names = [f"{name}{text}" for name in ("sft", *models)]
    return {
        "title": f"made up{text}",
        "world": f"my/world.yaml{text}",
        "split": f"test{text}",
        "num_prompts": 200,
        "samples_per_prompt": 4,
        "start": names[0],
        "truth": judges[0],
        "judges": judges,
        "trained_on": {f"{name}{text}": [judges[1]] for name in ("dpo", "ppo")},
        "models": [_model(rng, n, text, judges, names, k) for k, n in enumerate(("sft", *models))],
        "samples": [_sample(k, text, judges, names) for k in range(3)],
        "notes": [f"2 prompts were too long for the model and left out{text}"],
    }


def interval(mean: float, half: float, n: int = 200) -> dict[str, Any]:
    """An estimate as `Estimate.to_json` writes it."""
    return {"mean": mean, "ci95": [mean - half, mean + half], "n": n, "standard_error": half / 1.96}


def _model(
    rng: np.random.Generator, name: str, text: str, judges: list[str], names: list[str], place: int
) -> dict[str, Any]:
    gain = GAINS.get(name, 0.1 - 0.02 * place)
    pleased = {"ppo": 1.31, "dpo": 0.9, "sft": 0.0}.get(name, 3 * gain)
    row: dict[str, Any] = {
        "name": f"{name}{text}",
        "path": f"runs/{name}/model{text}",
        "scores": {judges[0]: interval(0.434 + gain, 0.022), judges[1]: interval(-0.4 + pleased, 0.11)},
        "perplexity": interval(3.1 + abs(gain) * 9, 0.2),
        "length": interval(40.2 + 30 * gain, 2.0),
        "ended": interval(0.98, 0.01),
        "refused": interval(0.02, 0.01),
        "diversity": {
            "distinct_1": interval(0.31 - 0.3 * abs(gain), 0.01),
            "distinct_2": interval(0.81 - 0.6 * abs(gain), 0.015),
            "self_bleu": interval(0.2 + 0.7 * abs(gain), 0.02),
            "self_bleu_within": None,
            "entropy": interval(3.9 - 3 * abs(gain), 0.05),
        },
        "exams": {f"{exam}{text}": interval(0.41 + 0.05 * k, 0.03) for k, exam in enumerate(EXAMS)},
        "curve": [
            {
                "n": n,
                "kl_bound": math.log(n) - (n - 1) / n,
                judges[0]: interval(0.434 + gain + 0.03 * math.log2(n), 0.02),
                judges[1]: interval(-0.4 + pleased + 0.2 * math.log2(n), 0.1),
            }
            for n in (1, 2, 4, 8, 16)
        ]
        if place < 2
        else [],
        "matrix": {
            other: round(0.5 + 0.9 * (gain - _gain_of(other.removesuffix(text), names, text)), 3)
            for other in names
            if other != f"{name}{text}"
        },
        "cost": {"tokens_sampled": 32_000 + 1000 * place, "seconds": 41.0 + 3 * place},
    }
    if place == 0:
        return {**row, "gain": {}, "battles": {}, "kl": None, "tax": {}}
    wins = [0.5 + 0.8 * gain - 0.04, 0.08, 0.5 - 0.8 * gain - 0.04]
    rate = interval(0.5 + 0.8 * gain, 0.055)
    return {
        **row,
        "gain": {judges[0]: interval(gain, 0.032), judges[1]: interval(pleased, 0.12)},
        "battles": {
            j: {**dict(zip(("win", "tie", "lose"), wins, strict=True)), "win_rate": rate} for j in judges
        },
        "kl": interval(KL.get(name, 0.4 + 0.3 * place), 0.1),
        "tax": {
            f"{exam}{text}": interval(-0.015 * place * k + float(rng.normal()) * 0.004, 0.028)
            for k, exam in enumerate(EXAMS)
        },
    }


def _gain_of(name: str, names: list[str], text: str) -> float:
    return GAINS.get(name, 0.1 - 0.02 * names.index(f"{name}{text}"))


def _sample(place: int, text: str, judges: list[str], names: list[str]) -> dict[str, Any]:
    asked = {"role": "user", "content": f"What is {place} plus one, and why?{text}"}
    start = f"The sum of {place} and one is {place + 1}, as one counts on."
    said = [start, start.replace("as one", "because one").replace("sum", "total"), f"It is {place + 1}.", ""]
    replies = {
        name: {
            "text": f"{said[k % 4]}{text}" if said[k % 4] else "",
            "scores": {judges[0]: 0.1 * k, judges[1]: 1.5 - k},
        }
        for k, name in enumerate(names)
    }
    return {"prompt": [asked], "replies": replies}
