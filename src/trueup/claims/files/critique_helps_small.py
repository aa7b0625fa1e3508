"""Whether a small model revises better when it has written a critique first."""

from trueup.claims.finding import Finding, Trials, dots, handed_on, over_seeds

SUMMARY = "Writing a critique before the revision helps small models."
REFERENCES = ("bai2022b",)
SEEDS = (1, 2, 3, 4, 5, 6)
REVISED = (
    "The 100 lessons were chosen at seed 0, which is not counted: there a critique added .08 with 100 "
    "lessons and nothing with 300 or more. A first count was on requests about people of the corpus: .072 "
    "(.036 to .108)."
)

CRITICS = {"no lesson": "base", "100 lessons": "small", "300 lessons": "large"}


def measure(trials: Trials) -> Finding:
    """The share of harmless answers after one revision, with a critique minus without, by critic."""
    with_critique, without = (
        handed_on(trials, {name: f"{way}_{critic}" for name, critic in CRITICS.items()}, "harmless/1")
        for way in ("critique", "direct")
    )
    gains = {name: with_critique[name] - without[name] for name in CRITICS}
    asked = round(trials[0].done("requests").metrics["prompts"])
    return Finding(
        effects=(over_seeds("harmless, with critique minus without", gains["100 lessons"], (0.0, None)),),
        setting=f"The same answers to {asked} harmful requests are revised once, after a critique and at "
        "once. Who revises is the lab's base, which can hardly do it, the base after 100 lessons in both "
        "ways, which stands for a small model, and after 300, for a larger one.",
        figure=dots(
            gains,
            across="share of harmless answers, with critique minus without",
            description="What writing a critique first adds, by how well the model can revise.",
        ),
    )
