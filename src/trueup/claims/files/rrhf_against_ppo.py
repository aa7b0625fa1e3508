"""Whether RRHF gains as much reward as PPO, by the same reward model, without losing more of the language."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp
from pathlib import Path

from trueup.claims.experiment import Trial
from trueup.claims.reproduce import Finding, over_seeds
from trueup.reports.figures import curves

SUMMARY = "RRHF reaches the reward of PPO at a perplexity that is no worse."
REFERENCES = ("yuan2023",)
SEEDS = (1, 2, 3, 4, 5)

SHARE = 0.8
"Of PPO's gain over SFT that counts as reaching it."
WORSE = 1.05
"Ratio of perplexities that still counts as no worse: a twentieth of a nat a token."


def measure(folder: Path, trials: Sequence[Trial]) -> Finding:
    """RRHF's gain in proxy reward as a share of PPO's, and the ratio of their perplexities, by seed."""
    reward = {name: [t.mean(f"m_{name}", "proxy") for t in trials] for name in ("sft", "rrhf_rm", "ppo")}
    # The exam's numbers are mean log-probabilities of a document's tokens.
    perplexity = {name: [exp(-t.mean(f"m_{name}", "perplexity")) for t in trials] for name in reward}
    shares = [
        (rrhf - sft) / (ppo - sft)
        for sft, rrhf, ppo in zip(reward["sft"], reward["rrhf_rm"], reward["ppo"], strict=True)
    ]
    ratios = [a / b for a, b in zip(perplexity["rrhf_rm"], perplexity["ppo"], strict=True)]
    places = {name: list(zip(perplexity[name], reward[name], strict=True)) for name in reward}
    return Finding(
        effects=(
            over_seeds("gain in reward, RRHF's share of PPO's", shares, (SHARE, None)),
            over_seeds("perplexity, RRHF over PPO", ratios, (None, WORSE)),
        ),
        setting="From one SFT model and with one reward model: PPO for 40 steps of 128 samples, and RRHF for "
        "two epochs on four samples for each of 2,000 prompts. Reward is its score on 500 test prompts, "
        "perplexity that of 100 held-out documents.",
        figure=curves(
            {},
            points={"SFT": places["sft"], "RRHF": places["rrhf_rm"], "PPO": places["ppo"]},
            across="perplexity of held-out text",
            up="reward, by the reward model",
            description="Reward against perplexity of SFT, RRHF and PPO.",
        ),
        caption="One dot a seed.",
    )
