"""Whether a base model aligned by its own principle-driven answers chooses the true answer more often."""

from trueup.claims.finding import Finding, Trials, dots, means, over_seeds

SUMMARY = "SELF-ALIGN raises the share of true answers on TruthfulQA."
REFERENCES = ("sun2023",)
SEEDS = (1, 2, 3, 4)
REVISED = (
    "A first count began from seed tasks that stand in the corpus: .250 (.132 to .368). Now none does, nor "
    "any question of an exemplar."
)

MODELS = {
    "base": "measure_base",
    "base with the HHH prompt": "measure_prompted",
    "after principle engraving": "measure_engraved",
    "after verbose cloning": "measure_cloned",
}


def measure(trials: Trials) -> Finding:
    """The truth exam after each stage minus the base's, seed by seed; beside it the prompted base."""
    shares = means(trials, MODELS, "truth_mc1")
    base, prompted, engraved, _ = shares.values()
    return Finding(
        effects=(over_seeds("MC1, engraved minus base", engraved - base, (0.0, None)),),
        setting="The lab's base writes its own tasks, answers them in the form of its exams, and learns "
        "question and answer. The exam is the lab's TruthfulQA: 50 questions with a popular myth among the "
        "choices, MC1. Over the base with the HHH prompt the engraved model scores "
        f"{(engraved - prompted).mean():+.3f}.",
        figure=dots(
            shares,
            across="share of questions whose truest answer is likeliest (MC1)",
            description="The truth exam of each model.",
        ),
    )
