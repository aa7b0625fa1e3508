"""Whether it matters which good dialogues the HHH prompt is made of."""

import numpy as np

from trueup.claims.finding import Finding, Trials, dots, means, over_seeds

SUMMARY = "Which good dialogues stand in the HHH prompt matters less than that there is one."
REFERENCES = ("askell2021",)
SEEDS = (1, 2, 3)
MINUTES = 4.0
HALF = 0.5
"Of the mean lift: a deviation between prompts below it counts as less."
MARGIN = 0.25
"How near to half the share may stay and count as on the bound."

DRAWS = {f"prompt {draw}": f"prompt_{draw}" for draw in range(1, 6)}


def measure(trials: Trials) -> Finding:
    """The deviation of gold between five prompts over the mean lift of the five, seed by seed."""
    gold = means(trials, {"no prompt": "bare", **DRAWS})
    bare, *prompted = gold.values()
    lifts = np.array(prompted) - bare
    shares = np.abs(lifts.std(axis=0, ddof=1) / lifts.mean(axis=0))
    return Finding(
        effects=(
            over_seeds(
                "deviation between prompts over the mean lift", shares, (None, HALF), margin=MARGIN, null=HALF
            ),
        ),
        setting="The lab's base model bare and after fourteen good dialogues, five draws of them, one of "
        "each kind of request in the same order; gold reward on 300 test prompts with two samples each.",
        figure=dots(gold, across="gold reward", description="Gold reward by prompt."),
        caption="One dot a seed of sampling.",
    )
