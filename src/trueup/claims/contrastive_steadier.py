"""Whether DPO is less sensitive than PPO to a learning rate that is too high."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trueup.experiment import Trial
from trueup.reproduce import Finding, dots, over_seeds

SUMMARY = "A contrastive method is steadier than PPO: a wrong learning rate costs it less."
REFERENCES = ("rafailov2023", "zhao2023")
SEEDS = (1, 2, 3)

RUNS = {"DPO, 1e-4": "dpo", "DPO, 3e-4": "dpo_fast", "PPO, 1e-4": "ppo", "PPO, 3e-4": "ppo_fast"}


def measure(folder: Path, trials: Sequence[Trial]) -> Finding:
    """What three times the learning rate cost in gold, DPO minus PPO, seed by seed."""
    gold = {name: [t.mean(f"m_{stage}", "gold") for t in trials] for name, stage in RUNS.items()}
    costs = [
        (dpo - dpo_fast) - (ppo - ppo_fast)
        for dpo, dpo_fast, ppo, ppo_fast in zip(*gold.values(), strict=True)
    ]
    return Finding(
        effects=(over_seeds("gold lost at 3e-4, DPO minus PPO", costs, (None, 0.0)),),
        setting="DPO on the comparisons, and PPO against a reward model of the same comparisons, at the"
        " learning rate 1e-4, which is the better one for both in the lab, and at 3e-4; gold "
        "reward on 500 test prompts.",
        figure=dots(gold, across="gold reward on test prompts", description="Gold reward by learning rate."),
        caption="One dot a seed, the mean with its 95 % interval.",
    )
