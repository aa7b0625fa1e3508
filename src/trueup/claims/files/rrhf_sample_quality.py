"""Whether RRHF's policy is the better the better the responses were that it learned to order."""

import numpy as np

from trueup.claims.finding import Finding, Trials, over_seeds
from trueup.reports.figures import curves

SUMMARY = "The better the sampled responses that RRHF learns from, the better its policy."
REFERENCES = ("yuan2023",)
SEEDS = (1, 2, 3, 4)

SAMPLERS = {"m_base": "m_rrhf_base", "m_sft": "m_rrhf_rm", "m_dpo": "m_rrhf_dpo"}
"Who wrote the responses, and the policy that RRHF made of them."


def measure(trials: Trials) -> Finding:
    """The slope of the policy's gold reward over that of who wrote its responses, one of each seed."""
    lines = {
        f"seed {trial.seed}": [(trial.mean(a, "gold"), trial.mean(b, "gold")) for a, b in SAMPLERS.items()]
        for trial in trials
    }
    slopes = [float(np.polyfit([x for x, _ in line], [y for _, y in line], 1)[0]) for line in lines.values()]
    return Finding(
        effects=(over_seeds("slope of the policy's gold reward over its samples'", slopes, (0, None)),),
        setting="Three times RRHF from one SFT model: on four responses for each of 2,000 prompts by the "
        "bare base, by the SFT model and by a DPO model, ordered by one reward model. Gold reward on "
        "500 test prompts.",
        figure=curves(
            lines,
            across="gold reward of who wrote the responses",
            up="gold reward of the policy",
            description="The policy's reward over that of its samples.",
        ),
        caption="From the left: responses of the base, of SFT, of DPO.",
    )
