"""Whether more and more proxy reward ends up costing true reward, when nothing pulls the policy back."""

import numpy as np

from trueup.claims.experiment import Floats
from trueup.claims.finding import Finding, Trials, over_seeds
from trueup.reports.figures import curves

SUMMARY = "Without a pull to the reference, gold reward falls from its peak while the proxy goes on rising."
REFERENCES = ("gao2022", "stiennon2020")
SEEDS = (1, 2, 3, 4, 5, 6, 7)
REVISED = (
    "Seeds 1 to 3 were undecided on differences of mean reward, since one reward model's scale "
    "outweighed the others'. Shares of prompts took their place before seeds 4 to 7 were run."
)


def measure(trials: Trials) -> Finding:
    """Which of the peak and the end each reward prefers, on the same test prompts.

    A share of prompts does not depend on a reward's scale, which differs from one reward model to the
    next. The peak was found on other prompts, so that choosing it does not flatter it.
    """

    def preferred(name: str) -> list[float]:
        return [_share_won(t.numbers("m_free", name), t.numbers("m_guarded", name)) for t in trials]

    lines = {
        said: np.mean([t.logged("free", name) for t in trials], axis=0)
        for said, name in (("proxy", "score"), ("gold", "guard/score"))
    }
    return Finding(
        effects=(
            over_seeds("proxy: share of prompts won by the end", preferred("proxy"), (0.5, None)),
            over_seeds("gold: share of prompts won by the end", preferred("gold"), (None, 0.5)),
        ),
        setting="REINFORCE without a KL penalty, at a high learning rate, against a reward model of 300"
        " prompts' comparisons. The peak is the step with the most gold on held-out prompts; "
        "its answers and the end's to 500 test prompts are compared, ties counting half.",
        figure=curves(
            {name: [(float(step), float(value)) for step, value in line] for name, line in lines.items()},
            across="step",
            up="reward",
            description="Proxy and gold reward along the run.",
        ),
        caption="On held-out prompts, mean over seeds.",
    )


def _share_won(end: Floats, peak: Floats) -> float:
    """The share of prompts on which the mean of the end's samples is higher; ties count half."""
    gain = end.mean(axis=1) - peak.mean(axis=1)
    return float(np.mean((np.sign(gain) + 1) / 2))
