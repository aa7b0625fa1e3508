"""Whether a model that keeps silent where it calls its own answer wrong is right more often."""

import numpy as np

from trueup.claims.experiment import wrote
from trueup.claims.finding import Finding, Trials, dots, over_seeds

SUMMARY = "A model that keeps back the answers it calls wrong itself is right more often, and still answers."
REFERENCES = ("kadavath2022",)
SEEDS = (1, 2, 3, 4)
MINUTES = 2.0
MARGIN = 0.03
"Share of right answers."
ANSWERS = 0.3
"Share of the requests that must be answered."
WIDE = 0.1
"How near to that the share may stay and count as on the bound."


def measure(trials: Trials) -> Finding:
    """Accuracy of the answers with p > ½ minus that of all, and the share that is answered, by seed."""
    rows = [wrote(trial, "certain", "certainty.json") for trial in trials]
    all_, kept, answered = np.array([kept_back(row) for row in rows]).T
    likely = np.array([by_likelihood(row, share) for row, share in zip(rows, answered, strict=True)])
    return Finding(
        effects=(
            over_seeds("right, answered minus all", kept - all_, (0.0, None), margin=MARGIN),
            over_seeds("share answered", answered, (ANSWERS, None), margin=WIDE, null=ANSWERS),
        ),
        setting="An SFT model that was taught about answers of its own answers requests that have a right "
        "answer, and is asked whether it is right; those that it calls wrong are kept back. Beside it as "
        "many answers that its likelihood finds surest.",
        figure=dots(
            {"all answers": all_, "called right": kept, "as many, by likelihood": likely},
            across="share of right answers",
            description="Accuracy with and without abstaining.",
        ),
    )


def kept_back(row: dict[str, list[float]]) -> tuple[float, float, float]:
    """Accuracy of all answers and of those with p > ½ (of all where there are none), and their share."""
    right, kept = np.array(row["right"]), np.array(row["stated"]) > 0.5
    return float(right.mean()), float(right[kept].mean() if kept.any() else right.mean()), float(kept.mean())


def by_likelihood(row: dict[str, list[float]], share: float) -> float:
    """Accuracy of the same share of answers, those of the highest mean log-probability."""
    order = np.argsort(row["mean_logprob"], kind="stable")[::-1]
    return float(np.array(row["right"])[order[: max(1, round(share * len(order)))]].mean())
