"""Whether the gap between a reward model and imitation changes with size, on binary judgements."""

from trueup.claims.finding import Finding, Trials, over_seeds
from trueup.claims.gaps import gaps_by_size, gaps_drawn, slope

SUMMARY = "On pairs, preference modelling and imitation gain alike from size."
REFERENCES = ("askell2021",)
SEEDS = (1, 2, 3, 4)
MINUTES = 14.0
ALIKE = 0.03
"Points of accuracy for a tenfold of parameters that count as alike."
MARGIN = 0.06

SIZES = ("micro", "tiny", "small", "base", "medium")


def measure(trials: Trials) -> Finding:
    """The slope of the gap, reward model minus imitation, per tenfold of parameters, seed by seed."""
    gaps = [gaps_by_size(trial, SIZES) for trial in trials]
    return Finding(
        effects=(
            over_seeds(
                "gap per tenfold of parameters", [slope(p) for p in gaps], (-ALIKE, ALIKE), margin=MARGIN
            ),
        ),
        setting="Five sizes, .05 to 1.7 million weights, trained from nothing on the same 600,000 or so "
        "tokens. From each a reward model, and imitation of the better answers, on the comparisons of 2,000 "
        "prompts; accuracy on those of 500 others.",
        figure=gaps_drawn(gaps),
        caption="The line is the mean over seeds; below 0 imitation ranks better.",
        because="Size by itself moves the gap: whichever of the two profits more from it.",
    )
