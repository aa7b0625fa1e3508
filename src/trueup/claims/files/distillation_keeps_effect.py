"""Whether a model distilled from itself under a prompt answers without the prompt as well as with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trueup.claims.experiment import Trial
from trueup.claims.reproduce import Finding, dots, over_seeds

SUMMARY = "Context distillation keeps most of the HHH prompt's effect."
REFERENCES = ("askell2021", "snell2022")
SEEDS = (1, 2, 3, 4, 5)

MOST = 0.75
"The share that counts as most. Askell et al. find distilled and prompted models about as good."


def measure(folder: Path, trials: Sequence[Trial]) -> Finding:
    """(gold distilled − gold bare) / (gold prompted − gold bare), seed by seed."""
    found = {
        name: [trial.mean(stage, "gold") for trial in trials]
        for name, stage in (("bare", "m_base"), ("prompted", "m_prompted"), ("distilled", "m_distilled"))
    }
    rows = zip(found["bare"], found["prompted"], found["distilled"], strict=True)
    kept = [(distilled - bare) / (prompted - bare) for bare, prompted, distilled in rows]
    return Finding(
        effects=(over_seeds("share of the prompt's gain in gold that is kept", kept, (MOST, None)),),
        setting="The lab's base model learns from itself under fourteen good dialogues, by the forward KL of "
        "its next-token distributions on 1,280 answers of its own; gold reward on 500 test prompts.",
        figure=dots(found, across="gold reward", description="Gold reward of the three models."),
        caption="One dot a seed, the mean with its 95 % interval.",
    )
