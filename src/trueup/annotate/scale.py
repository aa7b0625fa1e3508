"""What is set and measured once a reward model has learned: its zero, its unit, its accuracy by source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from trueup.annotate.logprobs import measure
from trueup.engine.groups import Group
from trueup.engine.method import Handles
from trueup.engine.views import where


def set_scale(groups: Sequence[Group], to: Literal["mean", "scale"], handles: Handles) -> Mapping[str, float]:
    """Their scores' mean and spread before the score's bias (and with `scale` its gain) were set by them.

    Comparisons fix a score up to a constant for each prompt, so its zero means nothing until it is set; a KL
    coefficient means something only against a known scale. Afterwards the groups' completions have mean 0,
    with `scale` also variance 1.
    """
    scores = measure(groups, "reward", "rewards", handles).double()
    mean, spread = float(scores.mean()), float(scores.std(correction=0))
    head = handles.networks["reward"].module.get_submodule("reward_head")
    gain = 1 / max(spread, 1e-6) if to == "scale" else 1.0
    head.get_buffer("gain").mul_(gain)
    head.get_buffer("bias").sub_(mean).mul_(gain)
    metrics: dict[str, float] = {}
    metrics["score/mean_before"] = mean
    metrics["score/std_before"] = spread
    return metrics


def accuracy_by_source(groups: Sequence[Group], handles: Handles) -> Mapping[str, float]:
    """`accuracy/SOURCE` on these groups, where they come from more than one source.

    A pair counts ½ where its scores tie, a soft label as the share of labelers that would agree; the mean is
    over a group's pairs first, then over the source's groups.
    """
    judged = where(groups, lambda group: group.pairs())
    if len({group.source for group in judged}) < 2:
        return {}
    scores = measure(judged, "reward", "rewards", handles).double().tolist()
    right: dict[str, list[float]] = {}
    start = 0
    for group in judged:
        own = scores[start : start + len(group.completions)]
        start += len(group.completions)
        agreed = [0.5 + (p.label - 0.5) * np.sign(own[p.chosen] - own[p.rejected]) for p in group.pairs()]
        right.setdefault(group.source, []).append(float(np.mean(agreed)))
    metrics: dict[str, float] = {}
    for source, values in right.items():
        metrics[f"accuracy/{source}"] = float(np.mean(values))
    return metrics
