"""Whether imitation beats a reward model in the lab because there is little data per parameter."""

import math

from trueup.claims.finding import Finding, Trials, over_seeds
from trueup.claims.gaps import gap, gaps_drawn, slope

SUMMARY = "With more comparisons per parameter, a reward model catches up with imitation."
REFERENCES = ("askell2021",)
SEEDS = (1, 2, 3, 4)
MINUTES = 5.0
MARGIN = 0.04
"Points of accuracy for a tenfold of prompts."

AMOUNTS = (250, 1000, 4000)


def measure(trials: Trials) -> Finding:
    """The slope of the gap, reward model minus imitation, per tenfold of prompts, seed by seed."""
    gaps = [[(math.log10(n), gap(trial, str(n))) for n in AMOUNTS] for trial in trials]
    return Finding(
        effects=(
            over_seeds("gap per tenfold of prompts", [slope(p) for p in gaps], (0.0, None), margin=MARGIN),
        ),
        setting="A reward model and imitation of the better answers on four comparisons for each of 250, "
        "1,000 or 4,000 prompts, as many updates each: 16 passes, 4, or one. Accuracy on comparisons of 500 "
        "other prompts, by a model of .92 million weights.",
        figure=gaps_drawn(gaps, "prompts with comparisons, log₁₀"),
        caption="The line is the mean over seeds; below 0 imitation ranks better.",
        because="Data per parameter is not why imitation ranks better here, from 250 to 4,000 prompts.",
    )
