"""Whether the plain average of several runs' weights is as good as the runs are on average."""

import numpy as np

from trueup.claims.finding import Finding, Trials, dots, means, over_seeds

SUMMARY = "The uniform average of N experts is at least as good as they are on average."
REFERENCES = ("rame2023", "wortsman2022")
SEEDS = (1, 2, 3, 4)

EXPERTS = ("four_imitation", "four_imitation_101", "four_imitation_102")
SAME = 0.02
"Of gold reward: a smaller loss counts as none."


def measure(trials: Trials) -> Finding:
    """Gold reward of the average minus the mean of its experts', seed by seed."""
    *runs, average = means(trials, {name: name for name in (*EXPERTS, "four_uniform")}).values()
    experts = np.mean(runs, axis=0)
    return Finding(
        effects=(
            over_seeds(
                "gold reward, average of the weights minus mean of the runs", average - experts, (-SAME, None)
            ),
        ),
        setting="Three runs of imitation from one SFT model on the same comparisons in three orders, and the "
        "average of their weights; gold reward on 500 test prompts with four samples each.",
        figure=dots(
            {"mean of three runs": experts, "their average": average},
            across="gold reward",
            description="Gold reward of three runs and of their average.",
        ),
    )
