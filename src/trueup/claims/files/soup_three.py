"""Whether the uniform soup of three experts serves three rewards at once better than any expert does."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from trueup.claims.experiment import Floats, wrote
from trueup.claims.finding import Finding, Trials, over_seeds
from trueup.reports.figures import spider

SUMMARY = "The uniform soup of three experts has more of three rewards on average than the best expert."
REFERENCES = ("rame2023",)
SEEDS = (1, 2, 3, 4)
MINUTES = 4.5
MARGIN = 0.1
"Deviations of a reward over the start's samples, as in `soup-connectivity`."


def measure(trials: Trials) -> Finding:
    """The soup's mean over the rewards minus the largest of the experts' means, seed by seed."""
    tables = [table(wrote(trial, "soup_of_three", "front.json")) for trial in trials]
    gains = [
        float(rows["uniform soup"].mean() - max(rows[e].mean() for e in experts(rows))) for rows in tables
    ]
    spokes = wrote(trials[0], "soup_of_three", "front.json")["rewards"]
    shown = {name: np.mean([rows[name] for rows in tables], axis=0).tolist() for name in tables[0]}
    return Finding(
        effects=(
            over_seeds(
                "mean of three rewards, uniform soup minus best expert",
                gains,
                (0.0, None),
                "deviations",
                margin=MARGIN,
            ),
        ),
        setting="From one SFT model an expert by REINFORCE for each of three rewards that pull apart: "
        "helpful, short, and personal, which is to say “I”. Their weights mixed evenly. Rewards "
        "in deviations over SFT's samples, on 300 test prompts.",
        figure=spider(shown, spokes, description="Three rewards of the start, the experts and their soup."),
        caption="Means over the seeds, all on one scale: the least value of all a tenth of the way out.",
    )


def experts(rows: Mapping[str, Floats]) -> list[str]:
    """The names of the experts' rows."""
    return [name for name in rows if name.startswith("expert")]


def table(front: Mapping[str, Any]) -> dict[str, Floats]:
    """The rewards of the start, of every expert and of the uniform soup, from a stage's `front.json`."""
    found = {}
    for row in front["policies"]:
        rewards = np.array([row["rewards"][name]["mean"] for name in front["rewards"]])
        if row["kind"] == "start":
            found["SFT"] = rewards
        elif row["kind"] == "soup" and max(row["weights"]) == 1.0:
            found[f"expert {front['experts'][int(np.argmax(row['weights']))]}"] = rewards
        elif row["kind"] == "soup" and np.ptp(row["weights"]) < 1e-9:
            found["uniform soup"] = rewards
    return found
