"""Whether reward models get more accurate, and the HHH prompt lifts more, as models get larger."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from trueup.claims.finding import Finding, Trial, Trials, over_seeds
from trueup.reports.figures import curves

SUMMARY = "Preference modelling, and the HHH prompt's lift, improve with model size."
REFERENCES = ("askell2021",)
SEEDS = (1, 2, 3, 4, 5, 6, 7, 8)
REVISED = (
    "Undecided at seeds 1 to 3, with comparisons for 1,000 prompts and a test on 500: accuracy .007 "
    "(-.067 to .082), lift .024 (-.020 to .069). All 2,000 prompts, a test on 2,000 others and seeds 4 to 8 "
    "took their place. The margin was named after seed 8, and before any seed of a plan was run."
)
MARGIN = 0.02
"Points of accuracy, and of gold, for a tenfold of parameters."

SIZES = ("tiny", "small", "base")
Points = list[tuple[float, float]]


def measure(trials: Trials) -> Finding:
    """Slopes per tenfold of parameters of the reward model's accuracy and of the lift in gold."""
    accuracy, lift = ([_by_size(trial, find) for trial in trials] for find in (_accuracy, _lift))
    lines = {
        "reward model's accuracy": _mean(accuracy),
        "prompt's lift in gold": _mean(lift),
    }
    return Finding(
        effects=(
            over_seeds(
                "accuracy per tenfold of parameters", [slope(p) for p in accuracy], (0.0, None), margin=MARGIN
            ),
            over_seeds(
                "lift per tenfold of parameters", [slope(p) for p in lift], (0.0, None), margin=MARGIN
            ),
        ),
        setting="Three sizes trained from nothing on the same 600,000 or so tokens. From each, a reward "
        "model on comparisons for 2,000 prompts, tested on 2,000 others; and the gold reward of its answers "
        "with fourteen good dialogues before them, minus without.",
        figure=curves(
            lines,
            points={
                f"{name}, each seed": [p for one in every for p in one]
                for name, every in (("accuracy", accuracy), ("lift", lift))
            },
            across="parameters, log₁₀",
            up="accuracy; gold",
            description="Accuracy and lift by size.",
        ),
        caption="Lines are means over seeds.",
    )


def slope(points: Points) -> float:
    """The least-squares slope of y over x."""
    x, y = np.array(points).T
    return float(np.polyfit(x, y, 1)[0])


def _by_size(trial: Trial, find: Callable[[Trial, str], float]) -> Points:
    sizes = [trial.done(f"{size}_600k").metrics["parameters"] for size in SIZES]
    return [(math.log10(n), find(trial, size)) for n, size in zip(sizes, SIZES, strict=True)]


def _accuracy(trial: Trial, size: str) -> float:
    return trial.done(f"ranks_{size}").metrics["accuracy"]


def _lift(trial: Trial, size: str) -> float:
    return trial.mean(f"m_prompted_{size}", "gold") - trial.mean(f"m_bare_{size}", "gold")


def _mean(every: Sequence[Points]) -> Points:
    return [(float(x), float(y)) for x, y in np.mean(every, axis=0)]
