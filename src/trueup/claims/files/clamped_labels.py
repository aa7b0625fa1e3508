"""Whether clamping the labels of a model that reasons makes the policy that learns from them better."""

from trueup.claims.finding import Finding, Trials, dots, handed_on, means, over_seeds

SUMMARY = "Clamping a reasoning model's labels to .4 to .6 makes a better policy than leaving them sure."
REFERENCES = ("bai2022b",)
SEEDS = (1, 2, 3, 4)
MINUTES = 5.5
MARGIN = 0.03
"Points of gold reward: the paired error of 500 prompts with room."

RUNS = {"labels as they are": "m_unclamped", "clamped": "m_clamped"}


def measure(trials: Trials) -> Finding:
    """Gold reward of the policy of clamped labels minus that of the others, seed by seed."""
    gold = means(trials, RUNS)
    free, clamped = gold.values()
    harmless = means(trials, RUNS, "harmless")
    sure = handed_on(trials, {"as they are": "unclamped"}, "label/confidence")["as they are"].mean()
    return Finding(
        effects=(over_seeds("gold, clamped minus as they are", clamped - free, (0.0, None), margin=MARGIN),),
        setting="A critic labels pairs of a helpful model's answers to harmful requests after a chain of "
        f"thought, with a mean confidence of {sure:.2f}. DPO on the labels as they are, and on the same ones "
        "clamped to .4 to .6; gold reward on 500 test prompts. Harmless: "
        + ", ".join(f"{name} {values.mean():.3f}" for name, values in harmless.items())
        + ".",
        figure=dots(gold, across="gold reward", description="Gold reward by labels."),
    )
