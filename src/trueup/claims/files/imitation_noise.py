"""Whether imitation ranks better than a reward model in the lab because its labels are noisy."""

import numpy as np

from trueup.claims.finding import Finding, Trials, dots, handed_on, over_seeds
from trueup.claims.gaps import gap

SUMMARY = "Without noise in the labels, a reward model catches up with imitation."
REFERENCES = ("askell2021",)
SEEDS = (1, 2, 3, 4)
MINUTES = 3.0
MARGIN = 0.03
"Points of accuracy; imitation leads by .08 on the crowd's labels (imitation-on-pairs)."

RANKERS = {
    f"{name}, {whose}": f"by_{stage}_{who}"
    for name, stage in (("reward model", "reward"), ("imitation", "imitation"))
    for whose, who in (("noisy labels", "crowd"), ("exact labels", "exact"))
}


def measure(trials: Trials) -> Finding:
    """How much the gap, reward model minus imitation, rises where labels are exact, seed by seed."""
    rise = np.array([gap(t, "exact") - gap(t, "crowd") for t in trials])
    return Finding(
        effects=(over_seeds("gap, exact minus noisy labels", rise, (0.0, None), margin=MARGIN),),
        setting="A reward model and imitation of the better answers, on the same pairs for 2,000 prompts, "
        "labelled by the crowd or by one who prefers the better answer always. Both are tested on exact "
        "labels of 500 other prompts.",
        figure=dots(
            handed_on(trials, RANKERS, "accuracy"),
            across="accuracy on exact comparisons",
            description="Accuracy by method and by whose labels it learnt.",
            rule=0.5,
        ),
        because="Noise is not why imitation ranks better here: the gap is there without it.",
    )
