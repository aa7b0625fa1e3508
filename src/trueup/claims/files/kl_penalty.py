"""What the KL penalty in RLHF's reward does: the policy stays nearer, and ends with more true reward."""

from math import log

from trueup.claims.finding import Finding, Trials, means, over_seeds, places
from trueup.reports.figures import curves

SUMMARY = "A KL penalty keeps the policy nearer to its start and ends with more gold reward than none."
REFERENCES = ("ziegler2019", "stiennon2020", "ouyang2022")
SEEDS = (1, 2, 3, 4, 5, 6, 7)
REVISED = (
    "Undecided at seeds 1 to 3 on the difference of KL, which one run that went far decided. Its "
    "logarithm took its place before seeds 4 to 7 were run."
)


def measure(trials: Trials) -> Finding:
    """KL and gold with the penalty minus without, after the same number of steps."""
    kl, gold = (means(trials, {"β = 0": "m_free", "β = 0.2": "m_pulled"}, name) for name in ("kl", "gold"))
    ratios = [log(ratio) for ratio in kl["β = 0.2"] / kl["β = 0"]]
    return Finding(
        effects=(
            over_seeds("log of KL with over KL without", ratios, (None, 0.0)),
            over_seeds("gold, with minus without", gold["β = 0.2"] - gold["β = 0"], (0.0, None)),
        ),
        setting="REINFORCE at a high learning rate against a reward model of 300 prompts' comparisons, "
        "once with β = 0.2 and once with none; KL to the SFT model and gold reward on 500 test "
        "prompts.",
        figure=curves(
            {},
            points=places(kl, gold),
            across="KL to the SFT model, nats",
            up="gold reward",
            description="Gold reward against KL at the end of each run.",
        ),
        caption="One dot a seed.",
    )
