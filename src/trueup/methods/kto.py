"""Kahneman-Tversky optimisation: learn from completions called good or bad, one by one."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge

from trueup.annotate.logprobs import Measure
from trueup.annotate.unpaired import MismatchedKL, labelled
from trueup.engine.groups import Group
from trueup.engine.method import Method, Parts, Role
from trueup.objectives.unpaired import KTO
from trueup.settings.blocks import DataSettings, LoopSettings, ModelSettings
from trueup.sources.files import Everything, Files
from trueup.update.adamw import AdamW

SUMMARY = "Learn from completions called good or bad one by one, against a running baseline."
REFERENCES = ("ethayarajh2024",)
FAMILY, UNIT, COPIES = "contrastive", "completion", 2
NEEDS = ("labels", "reference")

logger = logging.getLogger("trueup")


@dataclass(frozen=True, kw_only=True)
class Config:
    """KTO: λ (1 − σ(±β [h − z0])), h = log π − log ρ summed over tokens, + for good and − for bad."""

    model: ModelSettings = ModelSettings()
    "The policy, and frozen as it starts, the reference."
    data: DataSettings = DataSettings(path="world:comparisons")
    "Labels, or judgements that labels follow from."
    loop: LoopSettings = LoopSettings(epochs=1)
    "A step's groups make the baseline: with a batch of 1 it is always 0."
    update: AdamW = AdamW()
    beta: float = 0.1
    "Strength of the pull to the reference."
    desirable_weight: Annotated[float, Ge(0)] = 1.0
    undesirable_weight: Annotated[float, Ge(0)] = 1.0
    seed: int = 0


def build(config: Config, parts: Parts) -> Method:
    """The method: files (labels) -> reference log-probs, baseline -> KTO."""
    groups = labelled(parts.groups)
    _check_balance(groups, config.desirable_weight, config.undesirable_weight)
    written = frozenset({"desirable"})
    return Method(
        name="kto",
        source=Files(groups=groups, batch=config.loop.batch, written=written),
        held_out=Everything(groups=labelled(parts.held_out), written=written),
        annotate=(Measure(network="reference", want="logprobs", column="ref_logprobs"), MismatchedKL()),
        objective=KTO(
            beta=config.beta,
            desirable_weight=config.desirable_weight,
            undesirable_weight=config.undesirable_weight,
        ),
        update=config.update,
        networks={"policy": Role(), "reference": Role(trained=False)},
    )


def _check_balance(groups: Sequence[Group], good: float, bad: float) -> None:
    """Warns where λ_D n_D / (λ_U n_U) is outside [1, 3/2], the range that the paper recommends."""
    counts = Counter(c.marks["desirable"] > 0 for g in groups for c in g.completions)
    num_good, num_bad = counts[True], counts[False]
    if counts and not (num_good and num_bad):
        logger.warning(
            "KTO: all %d completions are %s: nothing tells good from bad, and the run only %s all of them",
            *(num_good + num_bad, *(("good", "raises") if num_good else ("bad", "lowers"))),
        )
        return
    if not bad * num_bad <= good * num_good <= 1.5 * bad * num_bad:
        logger.warning(
            "KTO: %d good completions of weight %g against %d bad ones of weight %g; "
            "their weighted numbers should have a ratio between 1 and 1.5",
            *(num_good, good, num_bad, bad),
        )
