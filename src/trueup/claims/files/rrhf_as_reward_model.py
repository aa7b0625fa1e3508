"""Whether a policy that RRHF trained also judges: its mean log-probability beside a reward model's score."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trueup.claims.experiment import Trial
from trueup.claims.reproduce import Finding, dots, over_seeds

SUMMARY = "A policy trained by RRHF ranks responses nearly as well as a reward model."
REFERENCES = ("yuan2023",)
SEEDS = (1, 2, 3, 4, 5)

CLOSE = 0.05
"Points of accuracy that count as nearly as well, as in `imitation-on-pairs`."


def measure(folder: Path, trials: Sequence[Trial]) -> Finding:
    """The gap in held-out accuracy, reward model minus RRHF, seed by seed."""
    found = {
        shown: [trial.done(f"by_{name}").metrics["accuracy"] for trial in trials]
        for shown, name in (("reward model", "reward"), ("RRHF", "rrhf"))
    }
    gaps = [a - b for a, b in zip(found["reward model"], found["RRHF"], strict=True)]
    return Finding(
        effects=(over_seeds("accuracy, reward model minus RRHF", gaps, (None, CLOSE)),),
        setting="Both learn from the same comparisons by simulated labelers, four for each of 2,000 prompts; "
        "the policy ranks by its mean log-probability. Accuracy on comparisons of 500 test prompts.",
        figure=dots(
            found, across="accuracy on held-out comparisons", description="Accuracy by method.", rule=0.5
        ),
        caption="One dot a seed, the mean with its 95 % interval.",
    )
