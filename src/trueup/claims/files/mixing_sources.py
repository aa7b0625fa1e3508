"""Whether one reward model of two sources of comparisons is as accurate on each as a model of that one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trueup.claims.experiment import Trial
from trueup.claims.reproduce import Finding, dots, over_seeds

SUMMARY = "A reward model of a mixture of sources costs no accuracy on any of them."
REFERENCES = ("askell2021", "bai2022a")
SEEDS = (1, 2, 3, 4, 5)

COST = 0.03
"Points of accuracy below which a loss counts as none, about the error of 500 test prompts."
SOURCES = {"sft": "SFT model's answers", "base": "base model's answers"}


def measure(folder: Path, trials: Sequence[Trial]) -> Finding:
    """Accuracy of the mixture's model minus that of the source's own, for each source, seed by seed."""
    found = {
        f"{shown}, {how}": [trial.done(f"{how}_{source}").metrics["accuracy"] for trial in trials]
        for source, shown in SOURCES.items()
        for how in ("alone", "mixed")
    }
    gains = {
        shown: [m - a for m, a in zip(found[f"{shown}, mixed"], found[f"{shown}, alone"], strict=True)]
        for shown in SOURCES.values()
    }
    return Finding(
        effects=tuple(
            over_seeds(f"accuracy on the {shown}, mixed minus alone", values, (-COST, None))
            for shown, values in gains.items()
        ),
        setting="Four samples for each of 800 prompts, four comparisons each by simulated labelers, of an "
        "SFT model and of the bare base model; one reward model of each and one of all rows of both; "
        "accuracy on comparisons of 500 test prompts of either kind.",
        figure=dots(found, across="accuracy on held-out comparisons", description="Accuracy by source."),
        caption="One dot a seed, the mean with its 95 % interval.",
    )
