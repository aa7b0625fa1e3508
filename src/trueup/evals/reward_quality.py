"""How good a reward model is: agreement with held-out judgements, and whether its confidence is honest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import expit

from trueup.engine.groups import Group
from trueup.errors import TrueupError
from trueup.judges import Judge
from trueup.statistics.estimates import ece, win_rate


def reward_model_quality(judge: Judge, groups: Sequence[Group], *, bins: int = 10) -> dict[str, Any]:
    """`accuracy` with `ci95`, `ece`, and the number of `pairs`, on groups with comparisons or rankings.

    A pair counts p if the judge prefers the completion preferred with probability p (1 for a plain choice),
    1 − p if the other, ½ if it scores them the same; pairs that people called a tie are left out. The mean
    and its interval are over prompts, so that a ranking with many pairs counts once. The confidence of a pair
    is σ(|r_a − r_b|), the Bradley–Terry probability of the judge's own choice (Guo 2017 for the ECE).
    """
    judged = [g for g in groups if any(p.label != 0.5 for p in g.pairs())]
    if not judged:
        raise TrueupError("E827", "no judged pairs to test the judge on", remedy="give held-out labels")
    scores = judge(judged)
    per_prompt, confidence, agreement = [], [], []
    for group, row in zip(judged, scores, strict=True):
        values = []
        for pair in group.pairs():
            if pair.label == 0.5:
                continue
            gap = row[pair.chosen] - row[pair.rejected]
            values.append(0.5 if gap == 0 else pair.label if gap > 0 else 1 - pair.label)
            confidence.append(float(expit(abs(gap))))
        per_prompt.append(float(np.mean(values)))
        agreement.extend(values)
    found = win_rate(per_prompt).estimate
    return {
        "accuracy": found.mean,
        "ci95": [found.low, found.high],
        "ece": ece(confidence, agreement, bins=bins),
        "pairs": len(agreement),
    }
