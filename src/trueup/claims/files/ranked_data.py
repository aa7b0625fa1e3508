"""Whether a reward model beats imitation where answers are ranked rather than compared in pairs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trueup.claims.experiment import Trial
from trueup.claims.reproduce import Finding, dots, over_seeds

SUMMARY = "On ranked data, preference modelling ranks better than imitation of the best."
REFERENCES = ("askell2021", "ouyang2022")
SEEDS = (1, 2, 3, 4, 5)


def measure(folder: Path, trials: Sequence[Trial]) -> Finding:
    """The gap in accuracy on the pairs of held-out rankings, reward model minus imitation, seed by seed."""
    found = {
        name: [trial.done(f"by_{name}").metrics["accuracy"] for trial in trials]
        for name in ("reward", "imitation")
    }
    gaps = [a - b for a, b in zip(found["reward"], found["imitation"], strict=True)]
    return Finding(
        effects=(over_seeds("accuracy, reward model minus imitation", gaps, (0.0, None)),),
        setting="Simulated labelers rank four samples of an SFT model for each of 1,000 prompts; the reward "
        "model learns all pairs of a ranking, imitation its best answers; accuracy on rankings of 500 test "
        "prompts.",
        figure=dots(
            found, across="accuracy on held-out rankings", description="Accuracy by method.", rule=0.5
        ),
        caption="One dot a seed, the mean with its 95 % interval.",
        because="A reward model of four layers, a scalar read at the last token, ranks worse here than the "
        "mean log-probability of a policy that learnt the best answers, on pairs as on rankings "
        "(imitation-on-pairs). Whether larger models turn it round, as in the source, was not measured.",
    )
