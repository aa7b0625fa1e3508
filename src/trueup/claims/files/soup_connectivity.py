"""Whether a reward dips on the line between two experts: linear mode connectivity from a shared start.

slack_k(λ) = R_k(θ_λ) − Σ_i λ_i R_k(θ_i)        (Ramé et al. 2023)
"""

import numpy as np

from trueup.claims.experiment import wrote
from trueup.claims.finding import Finding, Trials, over_seeds
from trueup.reports.figures import curves

SUMMARY = "No reward dips on the line between experts that were trained from one start."
REFERENCES = ("rame2023",)
SEEDS = (1, 2, 3, 4)

DIP = 0.1
"Deviations of a reward over the start's samples: a smaller dip counts as none."


def measure(trials: Trials) -> Finding:
    """Each reward's mean slack over the mixtures between the experts, by seed."""
    found = [slacks(wrote(t, "soup", "front.json")) for t in trials]
    names = list(found[0])
    drawn = {
        name: [(w, float(np.mean([f[name][w] for f in found]))) for w in sorted(found[0][name])]
        for name in names
    }
    effects = tuple(
        over_seeds(
            f"{name}, mean height over the experts' line",
            [float(np.mean([s for w, s in f[name].items() if 0 < w < 1])) for f in found],
            (-DIP, None),
            "deviations",
        )
        for name in names
    )
    return Finding(
        effects=effects,
        setting="From one SFT model an expert by REINFORCE for each of two rewards that pull apart, helpful "
        "and short; their weights mixed at 1/3 and 2/3. Rewards in deviations over SFT's samples, on "
        "500 test prompts with two samples each.",
        figure=curves(
            drawn,
            across="weight of the helpful expert",
            up="reward over the line between the experts'",
            description="How far the rewards of mixtures lie over those of the experts mixed alike.",
        ),
        caption="Means over the seeds; 0 is the straight line between the two experts' rewards.",
    )


def slacks(front: dict) -> dict[str, dict[float, float]]:
    """slack_k(λ) by reward and by the first expert's weight, from a stage's `front.json`."""
    soups = {row["weights"][0]: row["rewards"] for row in front["policies"] if row["kind"] == "soup"}
    return {
        name: {
            w: rewards[name]["mean"] - w * soups[1.0][name]["mean"] - (1 - w) * soups[0.0][name]["mean"]
            for w, rewards in soups.items()
        }
        for name in front["rewards"]
    }
