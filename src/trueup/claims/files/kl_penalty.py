"""What the KL penalty in RLHF's reward does: the policy stays nearer, and ends with more true reward."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from trueup.claims.experiment import Trial
from trueup.claims.reproduce import Finding, over_seeds
from trueup.reports import figures

SUMMARY = "A KL penalty keeps the policy nearer to its start and ends with more gold reward than none."
REFERENCES = ("ziegler2019", "stiennon2020", "ouyang2022")
SEEDS = (1, 2, 3, 4, 5, 6, 7)
REVISED = (
    "Undecided at seeds 1 to 3 on the difference of KL, which one run that went far decided. Its "
    "logarithm took its place before seeds 4 to 7 were run."
)


def measure(folder: Path, trials: Sequence[Trial]) -> Finding:
    """KL and gold with the penalty minus without, after the same number of steps."""

    ends = {
        said: [(t.mean(f"m_{name}", "kl"), t.mean(f"m_{name}", "gold")) for t in trials]
        for said, name in (("β = 0", "free"), ("β = 0.2", "pulled"))
    }
    return Finding(
        effects=(
            over_seeds("log of KL with over KL without", [_log_ratio(t) for t in trials], (None, 0.0)),
            over_seeds("gold, with minus without", [_gained(t) for t in trials], (0.0, None)),
        ),
        setting="REINFORCE at a high learning rate against a reward model of 300 prompts' comparisons, "
        "once with β = 0.2 and once with none; KL to the SFT model and gold reward on 500 test "
        "prompts.",
        figure=figures.curves(
            {},
            points=ends,
            across="KL to the SFT model, nats",
            up="gold reward",
            description="Gold reward against KL at the end of each run.",
        ),
        caption="One dot a seed.",
    )


def _log_ratio(trial: Trial) -> float:
    return math.log(trial.mean("m_pulled", "kl") / trial.mean("m_free", "kl"))


def _gained(trial: Trial) -> float:
    return trial.mean("m_pulled", "gold") - trial.mean("m_free", "gold")
