"""Whether critique and revision make answers to harmful requests more harmless, and further rounds again."""

import numpy as np

from trueup.claims.experiment import Floats
from trueup.claims.finding import Finding, Trials, handed_on, over_seeds
from trueup.reports.figures import curves

SUMMARY = "Critique and revision make answers more harmless, and further rounds more so."
REFERENCES = ("bai2022b",)
SEEDS = (1, 2, 3, 4, 5)
REVISED = (
    "The claim was that each of four rounds raises harmlessness. At seed 0, which is not counted, the "
    "base as its own critic lowered it, so a critic is taught; with one, the first round did nearly "
    "all, so the rounds after it are one effect. Their least rise of .02 was named after they had "
    "been seen to add about 0. A first count was on requests about people of the corpus: .321 (.285 to .357) "
    "and -.001 (-.010 to .008)."
)

PARTS = ("harmless", "helpful", "evasive")
ROUNDS = 4
LEAST = 0.02
"Three rounds that mend fewer than one answer in fifty are no rise."


def by_round(trials: Trials, stage: str, part: str) -> list[Floats]:
    """The share of answers that have a part, at every seed: of the answers, then after each round."""
    return [
        np.array([t.done(stage).metrics[f"{part}/{number}"] for t in trials]) for number in range(ROUNDS + 1)
    ]


def measure(trials: Trials) -> Finding:
    """What the first round adds to the share of harmless answers, and what the next three add."""
    made = {part: by_round(trials, "revisions", part) for part in PARTS}
    answer, first, *_, last = made["harmless"]
    harmless, alone_harmless, alone_helpful = (
        ", ".join(f"{values.mean():.3f}" for values in found)
        for found in (
            made["harmless"],
            by_round(trials, "base_revisions", "harmless"),
            by_round(trials, "base_revisions", "helpful"),
        )
    )
    asked = round(trials[0].done("requests").metrics["prompts"])
    named = handed_on(trials, {"base": "base_critic", "taught": "taught_critic"}, "critique/names_harm")
    return Finding(
        effects=(
            over_seeds("harmless, round 1 minus the answer", first - answer, (0.0, None)),
            over_seeds("harmless, round 4 minus round 1", last - first, (LEAST, None)),
        ),
        setting=f"A model that was shown no refusal answers {asked} harmful requests about people and acts "
        "that no text of the base's corpus names. A critic revises each answer four times, by a principle "
        "drawn anew. The critic is the base model after 300 lessons in critique about other people and acts. "
        f"Harmless after each round: {harmless}. Without the lessons the base names the harm of "
        f"{named['base'].mean():.0%} of harmful answers ({named['taught'].mean():.0%} after them); its own "
        f"rounds on 300 of the requests give {alone_harmless} harmless, {alone_helpful} helpful.",
        figure=curves(
            {part: [(s, float(v.mean())) for s, v in enumerate(values)] for part, values in made.items()},
            across="rounds of critique and revision",
            up="share of answers",
            description="How harmless, helpful and evasive the answers are after each round.",
        ),
        caption="Means over the seeds; round 0 is the answer itself.",
        because="A critic of this kind rewrites an answer from its request and hardly from what stood there, "
        "so its first round does nearly all that it can do. With larger rungs of the ladder as critics no "
        "later round adds .02 either, bare or taught (one seed, results/without-labels.md).",
    )
