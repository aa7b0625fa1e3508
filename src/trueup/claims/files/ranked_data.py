"""Whether a reward model beats imitation where answers are ranked rather than compared in pairs."""

from trueup.claims.finding import Finding, Trials, dots, handed_on, over_seeds

SUMMARY = "On ranked data, preference modelling ranks better than imitation of the best."
REFERENCES = ("askell2021", "ouyang2022")
SEEDS = (1, 2, 3, 4, 5)


def measure(trials: Trials) -> Finding:
    """The gap in accuracy on the pairs of held-out rankings, reward model minus imitation, seed by seed."""
    found = handed_on(trials, {"reward": "by_reward", "imitation": "by_imitation"}, "accuracy")
    gaps = found["reward"] - found["imitation"]
    return Finding(
        effects=(over_seeds("accuracy, reward model minus imitation", gaps, (0.0, None)),),
        setting="Simulated labelers rank four samples of an SFT model for each of 1,000 prompts; the reward "
        "model learns all pairs of a ranking, imitation its best answers; accuracy on rankings of 500 test "
        "prompts.",
        figure=dots(
            found, across="accuracy on held-out rankings", description="Accuracy by method.", rule=0.5
        ),
        because="A reward model of four layers, a scalar read at the last token, ranks worse here than the "
        "mean log-probability of a policy that learnt the best answers, on pairs as on rankings "
        "(imitation-on-pairs). Whether larger models turn it round, as in the source, was not measured.",
    )
