"""Whether helpfulness and harmlessness trade off: training for one of them alone costs the other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trueup.claims.experiment import Trial
from trueup.claims.reproduce import Finding, over_seeds
from trueup.reports import figures

SUMMARY = "Helpfulness and harmlessness trade off: training for one alone costs the other."
REFERENCES = ("bai2022a",)
SEEDS = (1, 2, 3)


def measure(folder: Path, trials: Sequence[Trial]) -> Finding:
    """What each run changed in the part that it was not rewarded for, over the start.

    The start is the bare base: an SFT model of the lab has no harm left to add or to lose (.99 harmless).
    """
    means = {
        name: [(t.mean(f"m_{name}", "helpful"), t.mean(f"m_{name}", "harmless")) for t in trials]
        for name in ("base", "helpful", "harmless")
    }
    pairs = list(zip(*means.values(), strict=True))
    return Finding(
        effects=(
            over_seeds("harmlessness, trained for help", [h[1] - b[1] for b, h, _ in pairs], (None, 0.0)),
            over_seeds("helpfulness, trained against harm", [s[0] - b[0] for b, _, s in pairs], (None, 0.0)),
        ),
        setting="REINFORCE from the bare base model, rewarded by the lab's own grade of helpfulness "
        "alone, and of harmlessness alone; both grades on 500 test prompts.",
        figure=figures.curves(
            {},
            points={
                "bare base": means["base"],
                "trained for help alone": means["helpful"],
                "trained against harm alone": means["harmless"],
            },
            across="helpful",
            up="harmless",
            description="Helpfulness against harmlessness of the start and of both runs.",
        ),
        caption="One dot a seed.",
        because="The lab's grade of helpfulness gives nothing for help with harm and all for a refusal that "
        "says whom it would hurt, so the two parts pull the same way; where people's labels reward "
        "compliance, they need not.",
    )
