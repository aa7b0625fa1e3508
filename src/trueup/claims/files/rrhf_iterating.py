"""Whether RRHF gains again when it goes on with samples of the policy that it has made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trueup.claims.experiment import Trial
from trueup.claims.reproduce import Finding, dots, over_seeds

SUMMARY = "A second round of RRHF, on samples of the policy that the first one made, raises the reward again."
REFERENCES = ("yuan2023",)
SEEDS = (1, 2, 3, 4)

ROUNDS = {"SFT": "m_sft", "first round": "m_rrhf_rm", "second round": "m_rrhf_again"}


def measure(folder: Path, trials: Sequence[Trial]) -> Finding:
    """The second round's gain in proxy reward over the first, seed by seed; gold beside it."""
    proxy = {name: [t.mean(stage, "proxy") for t in trials] for name, stage in ROUNDS.items()}
    gold = {name: [t.mean(stage, "gold") for t in trials] for name, stage in ROUNDS.items()}
    gains = [b - a for a, b in zip(proxy["first round"], proxy["second round"], strict=True)]
    means = ", ".join(f"{name} {sum(values) / len(values):.3f}" for name, values in gold.items())
    return Finding(
        effects=(over_seeds("reward, second round minus first", gains, (0, None)),),
        setting="RRHF on four samples of an SFT model for each of 2,000 prompts, then from that policy on "
        "four samples of its own for the same prompts; one reward model orders both, and scores 500 tests.",
        figure=dots(proxy, across="reward, by the reward model", description="Reward by round."),
        caption=f"One dot a seed, the mean with its 95 % interval. Mean gold reward: {means}.",
    )
