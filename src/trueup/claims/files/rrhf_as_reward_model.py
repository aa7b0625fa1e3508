"""Whether a policy that RRHF trained also judges: its mean log-probability beside a reward model's score."""

from trueup.claims.finding import Finding, Trials, dots, handed_on, over_seeds

SUMMARY = "A policy trained by RRHF ranks responses nearly as well as a reward model."
REFERENCES = ("yuan2023",)
SEEDS = (1, 2, 3, 4, 5)

CLOSE = 0.05
"Points of accuracy that count as nearly as well, as in `imitation-on-pairs`."


def measure(trials: Trials) -> Finding:
    """The gap in held-out accuracy, reward model minus RRHF, seed by seed."""
    found = handed_on(trials, {"reward model": "by_reward", "RRHF": "by_rrhf"}, "accuracy")
    gaps = found["reward model"] - found["RRHF"]
    return Finding(
        effects=(over_seeds("accuracy, reward model minus RRHF", gaps, (None, CLOSE)),),
        setting="Both learn from the same comparisons by simulated labelers, four for each of 2,000 prompts; "
        "the policy ranks by its mean log-probability. Accuracy on comparisons of 500 test prompts.",
        figure=dots(
            found, across="accuracy on held-out comparisons", description="Accuracy by method.", rule=0.5
        ),
    )
