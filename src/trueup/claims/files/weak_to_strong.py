"""Whether a larger model that learns from a smaller one's labels ends up better than its teacher."""

from trueup.claims.finding import Finding, Trials, dots, handed_on, over_seeds

SUMMARY = "A larger model that is trained on a smaller one's labels ranks better than its teacher."
REFERENCES = ("burns2023",)
SEEDS = (1, 2, 3, 4)
MINUTES = 2.5
MARGIN = 0.03
"Points of accuracy, about the error of 500 test prompts."

MODELS = {"teacher": "by_teacher", "student": "by_student", "student of people": "by_ceiling"}


def measure(trials: Trials) -> Finding:
    """Held-out accuracy on people's labels, student minus teacher, seed by seed."""
    found = handed_on(trials, MODELS, "accuracy")
    teacher, student, ceiling = found.values()
    share = (student - teacher).mean() / (ceiling - teacher).mean()
    return Finding(
        effects=(
            over_seeds("accuracy, student minus teacher", student - teacher, (0.0, None), margin=MARGIN),
        ),
        setting="The teacher is a reward model of .16 million weights, pretrained on 600,000 tokens and "
        "trained on people's labels for 1,000 prompts. It labels pairs for 1,000 others, from which a reward "
        "model of the SFT model, .92 million weights, learns; beside it the same from people's labels of "
        f"these pairs. Accuracy on people's labels of 500 test prompts; {share:.0%} of the gap to the "
        "student of people is recovered.",
        figure=dots(
            found,
            across="accuracy on people's labels",
            description="Accuracy of teacher and students.",
            rule=0.5,
        ),
    )
