"""Whether groups who disagree are served better by a reward model each than by one of all."""

import numpy as np

from trueup.claims.finding import Finding, Trials, dots, handed_on, over_seeds

SUMMARY = (
    "Where two groups of labelers disagree, a reward model of each foretells it better than one of both."
)
REFERENCES = ("santurkar2023", "ouyang2022")
SEEDS = (1, 2, 3, 4)
MINUTES = 2.5
MARGIN = 0.03
"Points of accuracy, about the error of 500 test prompts."

GROUPS = ("brief", "thorough")


def measure(trials: Trials) -> Finding:
    """Accuracy on a group's labels, its own model minus the model of both, mean of both groups, by seed."""
    stages = {f"{group}, {whose}": f"{whose}_{group}" for group in GROUPS for whose in ("own", "both")}
    found = handed_on(trials, stages, "accuracy")
    gains = np.mean([found[f"{group}, own"] - found[f"{group}, both"] for group in GROUPS], axis=0)
    return Finding(
        effects=(over_seeds("accuracy, own model minus one of both", gains, (0.0, None), margin=MARGIN),),
        setting="Two groups compare the same answers of an SFT model to 1,000 prompts; both see the true "
        "reward, and for every ten words one adds .3 to it and the other takes .3 off. A reward model of "
        "each group's labels, and one of all, tested on each group's labels of 500 other prompts.",
        figure=dots(
            found, across="accuracy on a group's held-out labels", description="Accuracy by group and model."
        ),
    )
