"""Losses that teach a scalar score from orders of completions: choices of the best, whole rankings."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from trueup.engine.batch import Batch, Outputs
from trueup.engine.method import Entries, Terms
from trueup.objectives.reward_model import agreement


@dataclass(frozen=True, kw_only=True)
class PlackettLuce:
    """The negative log-likelihood of each ranking as choices of the best, then of the best of the rest ...

    L_g = −Σ_i log [ e^{r_i} / (e^{r_i} + Σ_{k worse than i} e^{r_k}) ]

    The mark `tier` orders a group, 0 for the best; completions of one tier are not compared with each other.
    Zero scores of K in strict order give log K!; K = 2 is Bradley-Terry. Reference: Plackett 1975.
    """

    reads = frozenset({"tier"})
    wants = {"reward": ("rewards",)}

    def __call__(self, outputs: Outputs, batch: Batch) -> Terms:
        """Entries [G]: one loss a ranking."""
        assert outputs.rewards is not None
        loss = batch.per_group(_against_worse(outputs.rewards, batch), "completion")
        metrics = agreement(outputs.rewards.detach(), batch)
        return Terms({"plackett_luce": (1.0, Entries(loss, "group"))}, metrics)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The cross-entropy of which completion was called best: a softmax over each group's K scores.

    L_g = −log [ e^{r_best} / (e^{r_best} + Σ_{k worse} e^{r_k}) ],  the mean over several called best alike

    The mark `tier` orders a group, 0 for the best; the order of the rest plays no part. Zero scores give
    log K; K = 2 is Bradley-Terry. References: Ziegler et al. 2019, equation 1; Radford et al. 2018, section
    3.3 (multiple choice).
    """

    reads = frozenset({"tier"})
    wants = {"reward": ("rewards",)}

    def __call__(self, outputs: Outputs, batch: Batch) -> Terms:
        """Entries [G]: one loss a group."""
        assert outputs.rewards is not None
        tier = batch.marks["tier"]
        least = tier.new_full((batch.num_groups,), torch.inf).scatter_reduce(0, batch.group, tier, "amin")
        best = (tier == least[batch.group]).to(outputs.rewards.dtype)
        total = batch.per_group(best * _against_worse(outputs.rewards, batch), "completion")
        loss = total / batch.per_group(best, "completion")
        return Terms({"choice": (1.0, Entries(loss, "group"))}, agreement(outputs.rewards.detach(), batch))


def _against_worse(rewards: Float[Tensor, " N"], batch: Batch) -> Float[Tensor, " N"]:
    """−log P [N] that each completion is chosen among itself and those of its group in a worse tier."""
    tier = batch.marks["tier"]
    worse = (batch.group[:, None] == batch.group) & (tier[:, None] < tier)
    among = worse | torch.eye(len(tier), dtype=torch.bool, device=tier.device)
    return torch.where(among, rewards, -torch.inf).logsumexp(1) - rewards
