"""The loss that makes the policy's own likelihoods agree with a ranking."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import relu

from trueup.engine.batch import Batch, Outputs
from trueup.engine.method import Entries, Terms


@dataclass(frozen=True, kw_only=True)
class RRHF:
    """Every pair that the policy's length-normalised likelihoods put in the wrong order, and the best's NLL.

    p_i = Σ_t log π_θ(y_i,t) / |y_i|^a
    L_group = w Σ_{r_i < r_j} max(0, p_i − p_j) − v Σ_t log π_θ(y_*,t),  y_* the group's best

    The pairs are the group's strict preferences: of equals there is none. No margin, no reference: a pair in
    order has no loss and no gradient, nor has one of equal p. With one completion it is the NLL. Example:
    p = (−1, −2, −1.5) and r = (0, 1, 1) give 1 + ½ = 1.5 for the first part. A soft label q counts as q of
    the pair and 1 − q of its reverse. Reference: Yuan et al. 2023, section 3.
    """

    rank_weight: float = 1.0
    "w."
    nll_weight: float = 1.0
    "v: weight of the likelihood of the best completion."
    nll: Literal["sum", "mean"] = "sum"
    "Over the best completion's tokens."
    length_penalty: float = 1.0
    "a: 1 is the mean token log-probability, 0 the sum."

    reads = frozenset({"best"})
    wants = {"policy": ("logprobs",)}

    def __call__(self, outputs: Outputs, batch: Batch) -> Terms:
        """Entries [G]: one loss of each kind a group."""
        assert outputs.logprobs is not None
        logprob = batch.per_completion(outputs.logprobs)
        length = batch.lengths.to(logprob.dtype)
        p = logprob / length**self.length_penalty
        chosen, rejected = batch.pairs.unbind(1)
        gap = p[chosen] - p[rejected]
        rank = batch.labels * relu(-gap) + (1 - batch.labels) * relu(gap)
        best = batch.marks["best"] * (logprob / length if self.nll == "mean" else logprob)
        right = (gap.detach() > 0).to(gap.dtype) + 0.5 * (gap.detach() == 0).to(gap.dtype)
        return Terms(
            {
                "rank": (self.rank_weight, Entries(batch.per_group(rank, "pair"), "group")),
                "best": (self.nll_weight, Entries(-batch.per_group(best, "completion"), "group")),
            },
            {
                "accuracy": Entries(batch.labels * right + (1 - batch.labels) * (1 - right), "pair"),
                "logprobs/mean": Entries((logprob / length).detach(), "completion"),
            },
        )
