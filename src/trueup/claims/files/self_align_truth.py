"""Whether a base model aligned by its own principle-driven answers chooses the true answer more often."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trueup.claims.experiment import Trial
from trueup.claims.reproduce import Finding, dots, over_seeds

SUMMARY = "SELF-ALIGN raises the share of true answers on TruthfulQA."
REFERENCES = ("sun2023",)
SEEDS = (1, 2, 3, 4)
REVISED = (
    "A first count began from seed tasks that stand in the corpus: .250 (.132 to .368). Now none does, nor "
    "any question of an exemplar."
)

MODELS = {
    "base": "base",
    "base with the HHH prompt": "prompted",
    "after principle engraving": "engraved",
    "after verbose cloning": "cloned",
}


def measure(folder: Path, trials: Sequence[Trial]) -> Finding:
    """The truth exam after each stage minus the base's, seed by seed; beside it the prompted base."""
    shares = {
        name: [t.mean(f"measure_{stage}", "truth_mc1") for t in trials] for name, stage in MODELS.items()
    }
    base, prompted, engraved, _ = shares.values()
    over_prompt = sum(a - b for a, b in zip(engraved, prompted, strict=True)) / len(trials)
    return Finding(
        effects=(
            over_seeds(
                "MC1, engraved minus base", [a - b for a, b in zip(engraved, base, strict=True)], (0.0, None)
            ),
        ),
        setting="The lab's base writes its own tasks, answers them in the form of its exams, and learns "
        "question and answer. The exam is the lab's TruthfulQA: 50 questions with a popular myth among the "
        f"choices, MC1. Over the base with the HHH prompt the engraved model scores {over_prompt:+.3f}.",
        figure=dots(
            shares,
            across="share of questions whose truest answer is likeliest (MC1)",
            description="The truth exam of each model.",
        ),
        caption="One dot a seed, the mean with its 95 % interval.",
    )
