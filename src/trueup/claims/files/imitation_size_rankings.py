"""Whether preference modelling gains more from size than imitation does, on ranked answers."""

from trueup.claims.finding import Finding, Trials, over_seeds
from trueup.claims.gaps import gaps_by_size, gaps_drawn, slope

SUMMARY = "On rankings, preference modelling gains more from size than imitation does."
REFERENCES = ("askell2021",)
SEEDS = (1, 2, 3, 4)
MINUTES = 13.0
MARGIN = 0.04
"Points of accuracy for a tenfold of parameters."

SIZES = ("micro", "tiny", "small", "base", "medium")


def measure(trials: Trials) -> Finding:
    """The slope of the gap, reward model minus imitation, per tenfold of parameters, seed by seed."""
    gaps = [gaps_by_size(trial, SIZES, "ranked_") for trial in trials]
    return Finding(
        effects=(
            over_seeds("gap per tenfold of parameters", [slope(p) for p in gaps], (0.0, None), margin=MARGIN),
        ),
        setting="Five sizes, .05 to 1.7 million weights, trained from nothing on the same 600,000 or so "
        "tokens. From each a reward model of rankings of four answers to 1,000 prompts, and imitation of the "
        "best of each; accuracy on rankings of 500 other prompts.",
        figure=gaps_drawn(gaps),
        caption="The line is the mean over seeds; below 0 imitation ranks better.",
        because="From .05 to 1.7 million weights, size is not why imitation ranks better in the lab.",
    )
