"""Whether helpfulness and harmlessness trade off: training for one of them alone costs the other."""

from trueup.claims.finding import Finding, Trials, means, over_seeds, places
from trueup.reports.figures import curves

SUMMARY = "Helpfulness and harmlessness trade off: training for one alone costs the other."
REFERENCES = ("bai2022a",)
SEEDS = (1, 2, 3)

RUNS = {
    "bare base": "m_base",
    "trained for help alone": "m_helpful",
    "trained against harm alone": "m_harmless",
}


def measure(trials: Trials) -> Finding:
    """What each run changed in the part that it was not rewarded for, over the start.

    The start is the bare base: an SFT model of the lab has no harm left to add or to lose (.99 harmless).
    """
    helpful, harmless = means(trials, RUNS, "helpful"), means(trials, RUNS, "harmless")
    base, for_help, against_harm = RUNS
    return Finding(
        effects=(
            over_seeds("harmlessness, trained for help", harmless[for_help] - harmless[base], (None, 0.0)),
            over_seeds(
                "helpfulness, trained against harm", helpful[against_harm] - helpful[base], (None, 0.0)
            ),
        ),
        setting="REINFORCE from the bare base model, rewarded by the lab's own grade of helpfulness "
        "alone, and of harmlessness alone; both grades on 500 test prompts.",
        figure=curves(
            {},
            points=places(helpful, harmless),
            across="helpful",
            up="harmless",
            description="Helpfulness against harmlessness of the start and of both runs.",
        ),
        caption="One dot a seed.",
        because="The lab's grade of helpfulness gives nothing for help with harm and all for a refusal that "
        "says whom it would hurt, so the two parts pull the same way; where people's labels reward "
        "compliance, they need not.",
    )
