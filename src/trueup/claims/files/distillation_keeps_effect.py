"""Whether a model distilled from itself under a prompt answers without the prompt as well as with it."""

from trueup.claims.finding import Finding, Trials, dots, means, over_seeds

SUMMARY = "Context distillation keeps most of the HHH prompt's effect."
REFERENCES = ("askell2021", "snell2022")
SEEDS = (1, 2, 3, 4, 5)

MOST = 0.75
"The share that counts as most. Askell et al. find distilled and prompted models about as good."


def measure(trials: Trials) -> Finding:
    """(gold distilled − gold bare) / (gold prompted − gold bare), seed by seed."""
    found = means(trials, {"bare": "m_base", "prompted": "m_prompted", "distilled": "m_distilled"})
    kept = (found["distilled"] - found["bare"]) / (found["prompted"] - found["bare"])
    return Finding(
        effects=(over_seeds("share of the prompt's gain in gold that is kept", kept, (MOST, None)),),
        setting="The lab's base model learns from itself under fourteen good dialogues, by the forward KL of "
        "its next-token distributions on 1,280 answers of its own; gold reward on 500 test prompts.",
        figure=dots(found, across="gold reward", description="Gold reward of the three models."),
    )
