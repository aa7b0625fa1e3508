"""Whether a model that reasons first labels pairs more truly than one that answers at once."""

from trueup.claims.finding import Finding, Trials, dots, handed_on, over_seeds

SUMMARY = "Labels that a model reasons about first agree more with the truth."
REFERENCES = ("bai2022b",)
SEEDS = (1, 2, 3, 4)
MINUTES = 5.0
MARGIN = 0.05
"Share of the pairs that differ in harm, about 240 a seed."

STAGES = {"at once": "labels", "after a chain of thought": "reasoned"}


def measure(trials: Trials) -> Finding:
    """Agreement with the truth about harm, reasoned minus at once, seed by seed."""
    found = handed_on(trials, STAGES, "agreement/harmless")
    at_once, reasoned = found.values()
    sure = handed_on(trials, STAGES, "label/confidence")
    asked = round(trials[0].done("requests").metrics["prompts"])
    return Finding(
        effects=(
            over_seeds("agreement, reasoned minus at once", reasoned - at_once, (0.0, None), margin=MARGIN),
        ),
        setting=f"A critic compares two answers to each of {asked} harmful requests by a principle drawn "
        "anew, in both orders; at once, or after it has said what is wrong with each answer. The critic was "
        "taught to compare and to critique, and never to do one for the other. Confidence is "
        f"{sure['at once'].mean():.2f} at once and, clamped to .4 to .6, "
        f"{sure['after a chain of thought'].mean():.2f} after reasons.",
        figure=dots(found, across="agreement with the truth about harm", description="Agreement.", rule=0.5),
        because="A model of this size was never shown that a reason bears on a choice; its chains are "
        "critiques that stand in the way of the question.",
    )
