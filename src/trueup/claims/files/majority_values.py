"""Whose values a reward model has that two groups of unequal size have labelled."""

from trueup.claims.finding import Finding, Trials, dots, handed_on, over_seeds

SUMMARY = "A reward model takes the values of the larger group of its labelers, at the smaller one's cost."
REFERENCES = ("santurkar2023", "ouyang2022")
SEEDS = (1, 2, 3, 4)
MINUTES = 2.5
MARGIN = 0.03
"Points of accuracy, about the error of 500 test prompts."


def measure(trials: Trials) -> Finding:
    """Accuracy with nine labels in ten of one group minus that with half of each, for either group."""
    stages = {
        f"{group}, {shares}": f"{stage}_{group}"
        for group in ("brief", "thorough")
        for shares, stage in (("half of each", "both"), ("1 to 9", "nine_to_one"))
    }
    found = handed_on(trials, stages, "accuracy")
    changes = {
        group: found[f"{group}, 1 to 9"] - found[f"{group}, half of each"] for group in ("brief", "thorough")
    }
    return Finding(
        effects=(
            over_seeds(
                "the smaller group's accuracy, 1 to 9 minus half",
                changes["brief"],
                (None, 0.0),
                margin=MARGIN,
            ),
            over_seeds(
                "the larger group's accuracy, 1 to 9 minus half",
                changes["thorough"],
                (0.0, None),
                margin=MARGIN,
            ),
        ),
        setting="Comparisons of an SFT model's answers by two groups, one of which likes short answers and "
        "the other long ones, beside the true reward: for 1,000 prompts each, or 200 and 1,800. One reward "
        "model of all; accuracy on each group's labels of 500 other prompts.",
        figure=dots(
            found, across="accuracy on a group's held-out labels", description="Accuracy by group and share."
        ),
    )
