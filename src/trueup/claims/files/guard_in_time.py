"""Whether watching a second judge ends a run before over-optimisation has cost much."""

from trueup.claims.finding import Finding, Trials, over_seeds
from trueup.reports.figures import curves

SUMMARY = "A guard that watches a second judge ends a run before gold has lost a tenth of its peak."
REFERENCES = ("gao2022",)
SEEDS = (1, 2, 3, 4, 5, 6, 7)
REVISED = "Undecided at seeds 1 to 3; seeds 4 to 7 were added."

TENTH = 0.1


def measure(trials: Trials) -> Finding:
    """The share of gold's peak that was lost when each run ended; left alone, it must have lost more."""
    lost = {name: [t.logged(name, "guard/lost")[-1][1] for t in trials] for name in ("guarded", "free")}
    first = trials[0]
    return Finding(
        effects=(
            over_seeds("share of the peak lost, guarded", lost["guarded"], (None, TENTH)),
            over_seeds("share of the peak lost, left alone", lost["free"], (TENTH, None)),
        ),
        setting="REINFORCE without a KL penalty, at a high learning rate, against a reward model of 300"
        " prompts' comparisons. The guard looks at gold on 400 held-out prompts every second "
        "step, and ends the run when gold is 3 % below its peak twice in a row while the proxy "
        "is above what it was there.",
        figure=curves(
            {
                name: [(float(s), v) for s, v in first.logged(name, "guard/score")]
                for name in ("free", "guarded")
            },
            across="step",
            up="gold reward on held-out prompts",
            description="Gold reward along the run left alone and the guarded one.",
        ),
        caption=f"The runs of seed {first.seed}.",
    )
