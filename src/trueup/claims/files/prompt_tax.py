"""What the HHH prompt, and distilling it, cost in guessing the last word of a passage."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from trueup.claims.finding import Effect, Finding, Trials, dots
from trueup.statistics.estimates import paired_gain

SUMMARY = "The HHH prompt and its distillation cost little accuracy on last words."
REFERENCES = ("askell2021", "bai2022a")
SEEDS = (1, 2, 3, 4, 5)

LITTLE = 0.05
"Five points: what Askell et al. see on LAMBADA with their larger models."


def measure(trials: Trials) -> Finding:
    """The tax, bare minus aligned, with its interval over the exam's items; a gain is no tax."""
    exams = {
        name: np.stack([trial.exam(stage, "last_word") for trial in trials], axis=1)
        for name, stage in (("bare", "m_base"), ("prompted", "m_prompted"), ("distilled", "m_distilled"))
    }
    return Finding(
        effects=(_tax("prompted", exams), _tax("distilled", exams)),
        setting="The lab's base model, bare, after fourteen good dialogues, and taught by itself under them; "
        "greedy last words of 200 test passages. Intervals are over passages, since without training a seed "
        "changes nothing here.",
        figure=dots(
            {name: list(values.mean(axis=0)) for name, values in exams.items()},
            across="accuracy on last words",
            description="Accuracy on last words of the three models.",
        ),
        caption="One dot a seed; the bare and the prompted model are the same at each.",
    )


def _tax(name: str, exams: Mapping[str, NDArray[np.float64]]) -> Effect:
    """Both are [num_items, num_seeds]; seeds of one item are averaged first."""
    found = paired_gain(exams["bare"], exams[name])
    return Effect(
        name=f"accuracy, bare minus {name}",
        value=found.mean,
        interval=(found.low, found.high),
        wanted=(None, LITTLE),
        by_seed=tuple(float(v) for v in (exams["bare"] - exams[name]).mean(axis=0)),
    )
