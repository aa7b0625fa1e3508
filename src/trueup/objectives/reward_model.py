"""Losses that teach a scalar score from comparisons and rankings."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from trueup.engine.batch import Batch, Outputs
from trueup.engine.method import Entries, Terms


@dataclass(frozen=True, kw_only=True)
class BradleyTerry:
    """The negative log-likelihood of each group's preferences, averaged inside the group.

    L_g = (1 / |P_g|) Σ_{(w,l) ∈ P_g} [ −p log σ(Δ) − (1 − p) log σ(−Δ) ],  Δ = r(y_w) − r(y_l) − m(strength)

    Every completion is scored once, however many pairs it stands in; a prompt with K = 9 weighs as much
    as one with K = 2. With `center` > 0, center·(r_w + r_l)² is added. Zero scores give log 2 for any K;
    adding a constant to all scores of a prompt changes nothing. References: Bradley and Terry 1952; Ouyang
    et al. 2022, equation 1 (K-wise); Touvron et al. 2023, equation 2 (margin).
    """

    margin: float | tuple[float, ...] = 0.0
    "m: the gap demanded for one unit of stated strength; or a table, one gap for each strength 1, 2, 3 ..."
    center: float = 0.0
    "Weight of the squared sum of a pair's scores, which keeps scores near zero."

    reads = frozenset[str]()
    wants = {"reward": ("rewards",)}

    def __call__(self, outputs: Outputs, batch: Batch) -> Terms:
        """Entries [G]: one loss a group; groups without a pair give 0."""
        assert outputs.rewards is not None
        chosen, rejected = batch.pairs.unbind(1)
        delta = outputs.rewards[chosen] - outputs.rewards[rejected] - self._margins(batch.strengths)
        loss = -batch.labels * logsigmoid(delta) - (1 - batch.labels) * logsigmoid(-delta)
        if self.center:
            loss = loss + self.center * (outputs.rewards[chosen] + outputs.rewards[rejected]) ** 2
        metrics = agreement(outputs.rewards.detach(), batch)
        return Terms({"bradley_terry": (1.0, Entries(_mean_in_group(loss, batch), "group"))}, metrics)

    def _margins(self, strengths: Float[Tensor, " P"]) -> Float[Tensor, " P"]:
        """m [P] of the stated strengths [P]; a strength beyond the table counts as its nearest row."""
        if not isinstance(self.margin, tuple):
            return self.margin * strengths
        table = strengths.new_tensor(self.margin or (0.0,))
        return table[(strengths.round().long() - 1).clamp(0, len(table) - 1)]


@dataclass(frozen=True, kw_only=True)
class Imitation:
    """The reward network's own language-modelling loss on what is worth imitating, a mean over tokens each.

    L_g = −Σ_i a_i (1 / |y_i|) Σ_t log π(y_{i,t} | x, y_{i,<t})

    a is the mark `imitate`, held constant: 1 shared among the good completions, 0 on the others. A uniform
    model gives log V. Reference: Radford et al. 2018, equation 5.
    """

    reads = frozenset({"imitate"})
    wants = {"reward": ("logprobs",)}

    def __call__(self, outputs: Outputs, batch: Batch) -> Terms:
        """Entries [G]: one loss a group; [T] log-probabilities are averaged inside each completion."""
        assert outputs.logprobs is not None
        mean = batch.mean_per_completion(outputs.logprobs)
        loss = batch.per_group(-batch.marks["imitate"] * mean, "completion")
        return Terms({"imitation": (1.0, Entries(loss, "group"))})


def agreement(scores: Float[Tensor, " N"], batch: Batch) -> dict[str, Entries]:
    """What the scores say of the pairs, ties ½; a soft label counts as the share that would agree."""
    chosen, rejected = batch.pairs.unbind(1)
    gap = scores[chosen] - scores[rejected]
    right = 0.5 + (batch.labels - 0.5) * gap.sign()
    metrics: dict[str, Entries] = {}
    metrics["accuracy"] = Entries(_mean_in_group(right, batch), "group")
    metrics["margin"] = Entries(_mean_in_group(gap, batch), "group")
    metrics["score"] = Entries(scores, "completion")
    return metrics


def _mean_in_group(per_pair: Float[Tensor, " P"], batch: Batch) -> Float[Tensor, " G"]:
    """Means [G] of per-pair values [P] over each group's pairs."""
    pairs = torch.bincount(batch.pair_group, minlength=batch.num_groups)
    return batch.per_group(per_pair, "pair") / pairs.clamp(min=1)
