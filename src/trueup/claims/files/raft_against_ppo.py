"""Whether RAFT balances reward and perplexity better than PPO, from one SFT and one reward model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trueup.claims.experiment import Trial
from trueup.claims.reproduce import Finding, over_seeds
from trueup.reports import figures

SUMMARY = "RAFT reaches more reward at a lower perplexity than PPO."
REFERENCES = ("dong2023",)
SEEDS = (1, 2, 3, 4, 5)


def _kl(trials: Sequence[Trial], name: str) -> float:
    return float(np.mean([t.mean(f"m_{name}", "kl") for t in trials]))


def measure(folder: Path, trials: Sequence[Trial]) -> Finding:
    """RAFT minus PPO in the reward that both were trained on, and in nats a token of held-out text."""
    reward = {name: [t.mean(f"m_{name}", "proxy") for t in trials] for name in ("raft", "ppo")}
    nats = {name: [-t.mean(f"m_{name}", "perplexity") for t in trials] for name in ("raft", "ppo")}

    def change(found: dict[str, list[float]]) -> list[float]:
        return [a - b for a, b in zip(found["raft"], found["ppo"], strict=True)]

    ends = {
        name.upper(): [(float(np.exp(x)), y) for x, y in zip(nats[name], reward[name], strict=True)]
        for name in ("raft", "ppo")
    }
    return Finding(
        effects=(
            over_seeds("reward, RAFT minus PPO", change(reward), (0.0, None)),
            over_seeds("log perplexity, RAFT minus PPO", change(nats), (None, 0.0), "nats a token"),
        ),
        setting="Reward is the reward model's score on 500 test prompts; perplexity is that of 100 "
        "held-out documents of the corpus that the base model was trained on.",
        figure=figures.curves(
            {},
            points=ends,
            across="perplexity of held-out text",
            up="score of the reward model",
            description="Reward against perplexity by method.",
        ),
        caption="One dot a seed; better is up and to the left.",
        because="RAFT trains on its own favourites and nothing pulls it back: its KL to the SFT model is "
        f"{_kl(trials, 'raft'):.2f} nats where PPO's is {_kl(trials, 'ppo'):.2f}. A shorter run is nearer to "
        "the truth and to its start (results/methods.md).",
    )
