"""Whether RAFT that samples hotter keeps its answers more different, without losing reward."""

from trueup.claims.finding import Finding, Trials, means, over_seeds, places
from trueup.reports.figures import curves

SUMMARY = "RAFT that samples at a higher temperature keeps more diversity at no loss of reward."
REFERENCES = ("dong2023",)
SEEDS = (1, 2, 3, 4)
MINUTES = 3.5
LOSS = 0.1
"Deviations of the reward model's score, which counts as no loss."
MARGIN = 0.2
DIVERSE = 0.03
"Share of different texts among eight; a quarter of one sample."

RUNS = {"T = 0.7": "d_07", "T = 1": "d_10", "T = 1.3": "d_13"}


def measure(trials: Trials) -> Finding:
    """Reward and diversity at T = 1.3 minus those at T = 0.7, seed by seed; both sampled at T = 1."""
    reward, distinct = means(trials, RUNS, "reward"), means(trials, RUNS, "distinct")
    cold, _, hot = RUNS
    return Finding(
        effects=(
            over_seeds(
                "distinct of eight, T = 1.3 minus 0.7",
                distinct[hot] - distinct[cold],
                (0.0, None),
                margin=DIVERSE,
            ),
            over_seeds(
                "reward, T = 1.3 minus 0.7",
                reward[hot] - reward[cold],
                (-LOSS, None),
                "deviations",
                margin=MARGIN,
            ),
        ),
        setting="RAFT for 30 steps from one SFT model against one reward model, its samples drawn at one of "
        "three temperatures. Then eight answers to each of 300 test prompts at temperature 1: the share of "
        "different texts, and the reward model's score.",
        figure=curves(
            {},
            points=places(distinct, reward),
            across="share of different texts among eight answers",
            up="score of the reward model",
            description="Reward against diversity by RAFT's temperature.",
        ),
        caption="One dot a seed.",
    )
