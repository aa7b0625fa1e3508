"""Whether more and more proxy reward ends up costing true reward, when nothing pulls the policy back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trueup.experiment import Trial
from trueup.report import figures
from trueup.reproduce import Finding, over_seeds

SUMMARY = "Without a pull to the reference, gold reward falls from its peak while the proxy goes on rising."
REFERENCES = ("gao2022", "stiennon2020")
SEEDS = (1, 2, 3)


def measure(folder: Path, trials: Sequence[Trial]) -> Finding:
    """What both rewards did between the peak and the end, on the same test prompts.

    The peak was found on other prompts, so that choosing it does not flatter it.
    """

    def change(name: str) -> list[float]:
        return [t.mean("m_free", name) - t.mean("m_guarded", name) for t in trials]

    lines = {
        said: np.mean([t.logged("free", name) for t in trials], axis=0)
        for said, name in (("proxy", "score"), ("gold", "guard/score"))
    }
    return Finding(
        effects=(
            over_seeds("proxy, end minus peak of gold", change("proxy"), (0.0, None)),
            over_seeds("gold, end minus peak of gold", change("gold"), (None, 0.0)),
        ),
        setting="REINFORCE without a KL penalty, at a high learning rate, against a reward model of 300"
        " prompts' comparisons. The peak is the step with the most gold on held-out prompts; "
        "both are measured on 500 test prompts.",
        figure=figures.curves(
            {name: [(float(step), float(value)) for step, value in line] for name, line in lines.items()},
            across="step",
            up="reward",
            description="Proxy and gold reward along the run.",
        ),
        caption="On held-out prompts, mean over seeds.",
    )
