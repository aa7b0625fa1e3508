"""Whether a reward model picks a right program of k more often than the policy's own likelihood does."""

import numpy as np

from trueup.claims.experiment import Floats
from trueup.claims.finding import Finding, Trial, Trials, over_seeds
from trueup.reports.figures import curves
from trueup.statistics.estimates import expected_best_of_n

SUMMARY = "Of k sampled programs, a reward model picks a right one more often than log-probability does."
REFERENCES = ("askell2021", "chen2021")
SEEDS = (1, 2, 3, 4)
MINUTES = 1.0
MARGIN = 0.05
"Share of tasks: one in twenty."

K = 8
RANKERS = {"reward model": "reward", "mean log-probability": "mean_logprob"}


def measure(trials: Trials) -> Finding:
    """Expected share of right programs among the picks of k = 8, reward model minus likelihood, by seed."""
    picked = {name: np.array([by_k(trial, ranker) for trial in trials]) for name, ranker in RANKERS.items()}
    by_reward, by_likelihood = (rows[:, K - 1] for rows in picked.values())
    chance = np.mean([right(trial).mean() for trial in trials])
    tasks = len(right(trials[0]))
    return Finding(
        effects=(
            over_seeds(
                f"right at k = {K}, reward model minus log-probability",
                by_reward - by_likelihood,
                (0.0, None),
                margin=MARGIN,
            ),
        ),
        setting=f"An SFT model writes 16 programs for each of {tasks} test tasks of the lab's stack "
        "language, which are run. The reward model learnt from comparisons of its programs for the training "
        f"tasks. A program picked at random is right in {chance:.0%}.",
        figure=curves(
            {
                name: [(float(k + 1), float(v)) for k, v in enumerate(rows.mean(axis=0))]
                for name, rows in picked.items()
            },
            across="k",
            up="share of right programs among the picks",
            description="How often the best of k by each ranker is right.",
        ),
        caption="Means over seeds; unbiased over all choices of k among 16.",
    )


def right(trial: Trial) -> Floats:
    """1 for a program that runs from the start asked for and leaves the number asked for, else 0."""
    return (trial.numbers("written", "helpful") == 1.0).astype(np.float64)


def by_k(trial: Trial, ranker: str) -> Floats:
    """The expected share of right picks of the best of k, for k = 1 to 16."""
    return expected_best_of_n(right(trial), trial.numbers("written", ranker)).mean(axis=0)
