"""Whether a model that was taught to can say in words how likely its own answers are right."""

import numpy as np

from trueup.claims.experiment import wrote
from trueup.claims.finding import Finding, Trials, handed_on, over_seeds
from trueup.reports.figures import curves

SUMMARY = "A model can be taught to say in words how likely its answers are right."
REFERENCES = ("lin2022", "kadavath2022")
SEEDS = (1, 2, 3, 4)
MINUTES = 2.0
ERROR = 0.1
"Expected calibration error in ten bins; some 500 answers leave .04 of it to chance."
MARGIN = 0.05
APART = 0.1
"How much likelier right the answers above the median confidence are at least."
WIDE = 0.2

BINS = 5


def measure(trials: Trials) -> Finding:
    """Calibration of the stated confidence, and what it tells: accuracy above minus below its median."""
    found = [wrote(trial, "certain", "certainty.json") for trial in trials]
    apart = [split_at_median(np.array(row["stated"]), np.array(row["right"])) for row in found]
    errors = handed_on(trials, {"taught": "certain", "not taught": "untaught"}, "ece")
    share = handed_on(trials, {"": "certain"}, "right")[""].mean()
    return Finding(
        effects=(
            over_seeds(
                "calibration error, taught", errors["taught"], (None, ERROR), margin=MARGIN, null=ERROR
            ),
            over_seeds("right, surer half minus the other", apart, (APART, None), margin=WIDE),
        ),
        setting="An SFT model answers requests that have a right answer and is then asked whether it is "
        "right; p is its probability of saying so. Lessons about answers of its own to training requests "
        f"come before; tests are about other people and things. {share:.0%} of the answers are right. "
        f"Calibration error before the lessons {errors['not taught'].mean():.2f}, after them "
        f"{errors['taught'].mean():.2f}.",
        figure=curves(
            {f"seed {t.seed}": reliability(row) for t, row in zip(trials, found, strict=True)},
            across="stated confidence",
            up="share of right answers",
            description="How often answers are right, by the confidence stated.",
        ),
        caption="A point is a fifth of a seed's answers, by stated confidence.",
    )


def split_at_median(stated: np.ndarray, right: np.ndarray) -> float:
    """Share of right answers among the surer half minus that among the others."""
    order = np.argsort(stated, kind="stable")
    half = len(order) // 2
    return float(right[order[half:]].mean() - right[order[:half]].mean())


def reliability(row: dict[str, list[float]]) -> list[tuple[float, float]]:
    """(mean confidence, share right) of every fifth of the answers."""
    stated, right = np.array(row["stated"]), np.array(row["right"])
    parts = np.array_split(np.argsort(stated, kind="stable"), BINS)
    return [(float(stated[part].mean()), float(right[part].mean())) for part in parts]
