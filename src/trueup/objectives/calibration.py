"""Sequence likelihood calibration: a hinge on raw log-probabilities, and the likelihood of a target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import relu

from trueup.engine.batch import Batch, Outputs
from trueup.engine.method import Entries, Terms
from trueup.objectives.hinge import pair_logprobs


@dataclass(frozen=True, kw_only=True)
class SLiC:
    """The hinge of each pair's gap in log-probability, and the likelihood of a target near which to stay.

    L_pair = max(0, δ − L(y_w) + L(y_l)) − λ L(y_ref),  L(y) = Σ_t log π_θ(y_t)

    y_ref is the pair's y_w (`chosen`), the best of its group by the mark `best` (`best`), or stands in no
    pair (`none`: `Demonstrations` beside this loss hold it). Raw sums, no reference model. With λ = 0 the
    sequence-to-sequence hinge; from a gap of δ on only the target's part has a gradient. A soft label p
    weighs the pair by p and its reverse by 1 − p. Reference: Zhao et al. 2023 (SLiC-HF).
    """

    delta: float = 1.0
    "δ: the gap at which a pair stops pushing, in nats."
    nll_weight: float = 1.0
    "λ."
    target: Literal["chosen", "best", "none"] = "chosen"

    @property
    def reads(self) -> frozenset[str]:
        """Which completion is a group's best, if that is the target."""
        return frozenset({"best"} if self.target == "best" else ())

    wants = {"policy": ("logprobs",)}

    def __call__(self, outputs: Outputs, batch: Batch) -> Terms:
        """Entries [P]: one loss of each kind a pair."""
        assert outputs.logprobs is not None
        logprob = batch.per_completion(outputs.logprobs)
        of_chosen, of_rejected = logprob[batch.pairs].unbind(1)
        gap, p = of_chosen - of_rejected, batch.labels
        loss = p * relu(self.delta - gap) + (1 - p) * relu(self.delta + gap)
        target: dict[str, tuple[float, Entries]] = {}
        if self.target != "none":
            of_target = p * of_chosen + (1 - p) * of_rejected
            if self.target == "best":
                of_best = batch.per_group(batch.marks["best"] * logprob, "completion")
                of_target = of_best[batch.pair_group]
            target["target"] = (self.nll_weight, Entries(-of_target, "pair"))
        return Terms({"hinge": (1.0, Entries(loss, "pair")), **target}, pair_logprobs(logprob, batch))


@dataclass(frozen=True, kw_only=True)
class Demonstrations:
    """The negative log-likelihood of each demonstration, summed over its tokens.

    L(y) = −Σ_t log π_θ(y_t)

    The target of SLiC-HF when it is the supervised data's own completion. Reference: Zhao et al. 2023.
    """

    reads = frozenset[str]()
    wants = {"policy": ("logprobs",)}

    def __call__(self, outputs: Outputs, batch: Batch) -> Terms:
        """Entries [N]: one loss a demonstration."""
        assert outputs.logprobs is not None
        nll = -batch.per_completion(outputs.logprobs)
        return Terms({"demonstrations": (1.0, Entries(nll, "completion"))})
