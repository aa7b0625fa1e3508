"""Whether summaries can be added to help without a reward model losing either."""

from trueup.claims.finding import Finding, Trials, dots, handed_on, over_seeds

SUMMARY = "A reward model of helpfulness and of summarisation is as good at either as one of that alone."
REFERENCES = ("bai2022a",)
SEEDS = (1, 2, 3, 4)
MINUTES = 2.0
COST = 0.03
"Points of accuracy below which a loss counts as none, as in `mixing-sources`."
MARGIN = 0.06

TASKS = {"summaries": "posts", "other answers": "others"}


def measure(trials: Trials) -> Finding:
    """Accuracy of the mixture's model minus that of the task's own, for each task, seed by seed."""
    stages = {
        f"{shown}, {how}": f"{how}_{task}" for shown, task in TASKS.items() for how in ("alone", "mixed")
    }
    found = handed_on(trials, stages, "accuracy")
    return Finding(
        effects=tuple(
            over_seeds(
                f"accuracy on {shown}, mixed minus alone",
                found[f"{shown}, mixed"] - found[f"{shown}, alone"],
                (-COST, None),
                margin=MARGIN,
            )
            for shown in TASKS
        ),
        setting="Four samples of an SFT model for each of about 520 posts to summarise and of about 1,100 "
        "other requests, harmful ones left out, four comparisons each; a reward model of either and one of "
        "all rows; accuracy on comparisons of test requests of either kind.",
        figure=dots(found, across="accuracy on held-out comparisons", description="Accuracy by task."),
    )
