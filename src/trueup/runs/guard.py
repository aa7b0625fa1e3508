"""Watches a judge that training never asks, and says when it falls while the training's own judge rises."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from trueup.engine.groups import Group
from trueup.engine.method import Method
from trueup.errors import TrueupError
from trueup.judges import Judge
from trueup.runs.samples import samples_policy
from trueup.settings.blocks import GuardSettings
from trueup.statistics.frontier import Fall, first_fall, lost_share

logger = logging.getLogger("trueup")
SERIES = ("steps", "watched", "proxy")
"What a checkpoint keeps of a guard: one value of each for every evaluation so far."


@dataclass(kw_only=True, eq=False)
class Guard:
    """One run's guard: at each held-out evaluation both judges' means over the same completions are noted."""

    settings: GuardSettings
    judge: Judge
    steps: list[int] = field(default_factory=list)
    watched: list[float] = field(default_factory=list)
    proxy: list[float] = field(default_factory=list)

    def score(self, groups: Sequence[Group], noted: dict[str, float]) -> None:
        """Nothing; notes what the watched judge says of freshly sampled groups, with its standard error."""
        means = [float(np.mean(scores)) for scores in self.judge(groups)]
        noted["guard/score"] = float(np.mean(means))
        if len(means) > 1:
            noted["guard/score_se"] = float(np.std(means, ddof=1)) / math.sqrt(len(means))

    def observe(self, step: int, metrics: dict[str, float]) -> None:
        """Nothing; adds `guard/lost`, the share of its peak that is lost, and warns when a fall begins.

        `metrics` are an evaluation's own, `score` and `guard/score` among them.
        """
        before = self.fall
        self.steps.append(step)
        self.watched.append(metrics["guard/score"])
        self.proxy.append(metrics["score"])
        metrics["guard/lost"] = lost_share(self.watched[-1], max(self.watched))
        if self.fall is not None and before is None:
            logger.warning(self.sentence)

    @property
    def fall(self) -> Fall | None:
        """Where the watched judge fell while the proxy rose; None if it has not."""
        return first_fall(
            self.watched, self.proxy, tolerance=self.settings.tolerance, patience=self.settings.patience
        )

    @property
    def ends(self) -> bool:
        """Whether the run is to end here."""
        return self.settings.stop and self.fall is not None

    @property
    def sentence(self) -> str:
        """What happened, in words and numbers; "" if nothing did."""
        fall = self.fall
        if fall is None:
            return ""
        ended = "; the run ends here" if self.settings.stop else ""
        return (
            f"over-optimised: by step {self.steps[fall.at]} {self.settings.judge} had lost "
            f"{100 * fall.lost:.1f} % of its peak of {self.watched[fall.peak]:.3f} "
            f"(step {self.steps[fall.peak]}) while the proxy rose from {self.proxy[fall.peak]:.3f} "
            f"to {self.proxy[fall.at]:.3f}{ended}"
        )

    def state(self) -> dict[str, list[float]]:
        """What a checkpoint keeps."""
        return {name: list(getattr(self, name)) for name in SERIES}

    def load(self, values: Mapping[str, list[float]]) -> None:
        """Nothing; the guard knows again what it had seen."""
        for name in SERIES:
            getattr(self, name)[:] = values[name]


def check_guarded(method: Method) -> None:
    """Nothing; raises E743 for a run whose held-out completions no judge scores, or are not its policy's."""
    reason = ""
    if not method.judge:
        reason = f"{method.name} asks no judge while it trains, so there is no proxy to rise"
    elif method.held_out is None:
        reason = "nothing is held out, so there are no completions to judge"
    elif not samples_policy(method):
        reason = "the held-out completions come from a file, not from the policy"
    if reason:
        raise TrueupError(
            "E743",
            reason,
            where="loop.guard",
            remedy="leave loop.guard out, or sample with a judge and data.held_out above 0",
        )
