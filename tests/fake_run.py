"""A made-up run directory: every number here is invented, to have something to draw."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

NAMES = ("base", "base_hhh", "sft", "best_of_16", "dpo", "ppo")
EXAMS = ("copying", "arithmetic", "spelling", "world facts", "perplexity")
KINDS = ("plain", "misconceived", "harmful", "unanswerable", "sum")


def write_fake_run(run_dir: Path, *, text: str = "", seed: int = 0, steps: int = 300) -> Path:
    """`run_dir` filled with every file the report reads.

    `text` is put into every string of the run; `steps` is the length of the longest stage.
    """
    rng = np.random.default_rng(seed)
    run_dir.mkdir(parents=True, exist_ok=True)
    _write(run_dir / "summary.json", fake_summary(rng, text))
    _write(run_dir / "frontier.json", fake_frontier(rng))
    _write(run_dir / "samples.json", fake_samples(rng, text))
    settings = fake_settings(text)
    for stage, share in (("sft", 1.0), ("reward", 0.7), ("dpo", 0.8), ("ppo", 0.4)):
        folder = run_dir / "stages" / stage
        folder.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(row) + "\n" for row in fake_metrics(rng, stage, round(share * steps))]
        (folder / "metrics.jsonl").write_text("".join(lines), encoding="utf-8")
        if stage in settings:
            _write(folder / "config.resolved.yaml", settings[stage])
    return run_dir


def fake_summary(rng: np.random.Generator, text: str = "") -> dict[str, Any]:
    gold = dict(zip(NAMES, (0.214, 0.331, 0.452, 0.561, 0.528, 0.575), strict=True))
    kl = {"base": None, "base_hhh": None, "sft": 0.0, "best_of_16": 1.835, "dpo": 3.42, "ppo": 2.13}
    policies: dict[str, Any] = {}
    for place, name in enumerate(NAMES):
        half = 0.021 + 0.002 * place
        row: dict[str, Any] = {
            "gold": {"mean": gold[name], "ci95": [gold[name] - half, gold[name] + half]},
            "helpful": round(gold[name] + 0.11, 3),
            "honest": round(gold[name] - 0.07, 3),
            "harmless": round(gold[name] + 0.2, 3),
            "proxy": round(4 * gold[name] - 1.2, 3),
            "kl": None
            if kl[name] is None
            else {"mean": kl[name], "ci95": [kl[name] * 0.94, kl[name] * 1.06]},
            "seconds": 12.0 + 71 * place,
            "tokens_trained": 0 if place in (0, 1, 3) else 310_000 * place,
            "tokens_sampled": 41_000 * (1 + place),
            "peak_mib": 410 + 137 * place,
        }
        if name not in ("base", "base_hhh"):
            row["tax"] = {exam: _tax(rng, name, exam) for exam in EXAMS}
        if name not in ("base", "base_hhh", "sft"):
            gain = gold[name] - gold["sft"]
            row["gain"] = {"over": "sft", "mean": gain, "ci95": [gain - 0.031, gain + 0.031]}
        if name != "sft":
            win = 0.5 + 1.4 * (gold[name] - gold["sft"])
            row["win_rate_vs_sft"] = {"mean": win, "ci95": [win - 0.05, win + 0.05]}
        if name == "best_of_16":
            row["kl"] = {"mean": 1.835, "kind": "bound"}
        policies[name] = row
    policies["dpo"]["win_rate_vs_sft"]["ci95"] = None
    summary: dict[str, Any] = {
        "policies": policies,
        "reward_model": {"accuracy": {"mean": 0.741, "ci95": [0.712, 0.77]}, "ece": 0.034, "num_pairs": 1200},
        "versions": {"trueup": "0.1.0", "torch": "2.13.0", "python": "3.11.9"},
        "num_prompts": 400,
        "seed": 0,
    }
    if text:
        policies["dpo"]["tax"][f"exam {text}"] = {"delta": -0.1, "ci95": [-0.2, -0.05]}
        policies[f"custom {text}"] = {
            "gold": {"mean": 0.4, "ci95": [0.3, 0.5]},
            "gain": {"over": text, "mean": 0.1},
        }
        summary["reward_model"][text] = text
        summary["versions"][text] = text
    return summary


def fake_frontier(rng: np.random.Generator) -> list[dict[str, Any]]:
    points = []
    for name, alpha, beta, reach in (("dpo", 0.15, 0.05, 3.42), ("ppo", 0.2, 0.05, 8.6)):
        for k in range(1, 13):
            d = math.sqrt(reach) * k / 12
            points.append(
                _point(rng, name, 20 * k, d, alpha * d - beta * d * d, (0.5 if name == "dpo" else 0.65) * d)
            )
    for n in (1, 2, 4, 8, 16):
        d = math.sqrt(math.log(n) - (n - 1) / n)
        points.append(_point(rng, "best_of_n", n, d, 0.11 * d - 0.012 * d * d, 0.8 * d))
    return points


def fake_samples(rng: np.random.Generator, text: str = "") -> list[dict[str, Any]]:
    samples = []
    for i in range(12):
        kind = KINDS[i % len(KINDS)]
        prompt = [
            {
                "role": "user",
                "content": f"Request {i}: could you tell me where the green lamp is kept? {text}",
            }
        ]
        if i % 3 == 1:
            prompt = [
                {"role": "user", "content": f"Hello there. {text}"},
                {"role": "assistant", "content": "Hello! What can I do for you?"},
                *prompt,
            ]
        replies = {
            name: {
                "text": f"The lamp is in the hall, by the window. {'It is easy to miss. ' * (j % 3)}{text}",
                "gold": round(float(rng.random()), 3),
                "reasons": [f"states the fact {text}", "polite"][: 1 + j % 2],
            }
            for j, name in enumerate(NAMES)
        }
        samples.append({"prompt": prompt, "kind": f"{kind} {text}".strip(), "policies": replies})
    return samples


def fake_settings(text: str = "") -> dict[str, Any]:
    settings: dict[str, Any] = {
        "sft": {"steps": 300, "update": {"rate": 3e-4, "clip": 1.0}, "data": "lab"},
        "ppo": {"steps": 120, "beta": 0.05, "gamma": 1.0, "lam": 0.95, "judge": "reward"},
    }
    if text:
        settings["sft"][text] = text
    return settings


def fake_metrics(rng: np.random.Generator, stage: str, steps: int) -> list[dict[str, Any]]:
    rows = []
    for step in range(1, steps + 1):
        t = step / steps
        noise = rng.normal(size=6) * 0.05
        metrics = {
            "loss": 2.2 * math.exp(-3 * t) + 0.4 + noise[0],
            "grad_norm": 1 + 0.3 * math.exp(-t) + abs(noise[1]),
            "learning_rate": 3e-4 * (1 - t),
        }
        if stage in ("dpo", "ppo"):
            metrics |= {
                "kl": 2.1 * t + noise[2],
                "reward": 0.9 * t + noise[3],
                "clip_fraction": 0.1 + 0.3 * noise[4],
            }
        if stage in ("reward", "dpo"):
            metrics |= {"accuracy": 0.5 + 0.25 * t + noise[5]}
        rows.append({"step": step, "phase": "train", **metrics})
    return rows


def _tax(rng: np.random.Generator, name: str, exam: str) -> dict[str, Any]:
    delta = {"sft": -0.01, "best_of_16": -0.005, "dpo": -0.05, "ppo": -0.025}[name]
    delta += 0.02 if exam == "world facts" else 0.04 * float(rng.normal()) * 0.5
    half = 0.02 + 0.015 * float(rng.random())
    return {"delta": delta, "ci95": [delta - half, delta + half]}


def _point(
    rng: np.random.Generator, name: str, step: int, d: float, gold: float, proxy: float
) -> dict[str, Any]:
    gold = 0.45 + gold + 0.004 * float(rng.normal())
    return {
        "policy": name,
        "step": step,
        "kl": d * d,
        "kl_se": 0.0 if name == "best_of_n" else 0.03 * d,
        "gold": gold,
        "gold_ci95": [gold - 0.022, gold + 0.022],
        "proxy": 0.6 + proxy,
    }


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=True, indent=1), encoding="utf-8")
