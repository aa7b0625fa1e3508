"""Whether one reward model of two sources of comparisons is as accurate on each as a model of that one."""

from trueup.claims.finding import Finding, Trials, dots, handed_on, over_seeds

SUMMARY = "A reward model of a mixture of sources costs no accuracy on any of them."
REFERENCES = ("askell2021", "bai2022a")
SEEDS = (1, 2, 3, 4, 5)

COST = 0.03
"Points of accuracy below which a loss counts as none, about the error of 500 test prompts."
SOURCES = {"sft": "SFT model's answers", "base": "base model's answers"}


def measure(trials: Trials) -> Finding:
    """Accuracy of the mixture's model minus that of the source's own, for each source, seed by seed."""
    stages = {
        f"{shown}, {how}": f"{how}_{source}"
        for source, shown in SOURCES.items()
        for how in ("alone", "mixed")
    }
    found = handed_on(trials, stages, "accuracy")
    return Finding(
        effects=tuple(
            over_seeds(
                f"accuracy on the {shown}, mixed minus alone",
                found[f"{shown}, mixed"] - found[f"{shown}, alone"],
                (-COST, None),
            )
            for shown in SOURCES.values()
        ),
        setting="Four samples for each of 800 prompts, four comparisons each by simulated labelers, of an "
        "SFT model and of the bare base model; one reward model of each and one of all rows of both; "
        "accuracy on comparisons of 500 test prompts of either kind.",
        figure=dots(found, across="accuracy on held-out comparisons", description="Accuracy by source."),
    )
