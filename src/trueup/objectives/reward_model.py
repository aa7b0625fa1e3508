"""Losses that teach a scalar score from comparisons and rankings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from trueup.batch import Batch, Outputs
from trueup.method import Entries, Terms


@dataclass(frozen=True, kw_only=True)
class BradleyTerry:
    """The negative log-likelihood of each group's preferences, averaged inside the group.

    L_g = (1 / |P_g|) Σ_{(w,l) ∈ P_g} [ −p log σ(Δ) − (1 − p) log σ(−Δ) ],  Δ = r(y_w) − r(y_l) − m·strength

    Every completion is scored once, however many pairs it stands in; a prompt with K = 9 weighs as much
    as one with K = 2. With `center` > 0, center·(r_w + r_l)² is added. Zero scores give log 2 for any K;
    adding a constant to all scores of a prompt changes nothing. References: Bradley and Terry 1952; Ouyang
    et al. 2022, equation 1 (K-wise); Touvron et al. 2023, equation 2 (margin).
    """

    margin: float = 0.0
    "m: how much one unit of stated strength widens the required gap."
    center: float = 0.0
    "Weight of the squared sum of a pair's scores, which keeps scores near zero."

    @property
    def reads(self) -> frozenset[str]:
        """Nothing beyond the pairs."""
        return frozenset()

    @property
    def wants(self) -> Mapping[str, tuple[str, ...]]:
        """Scores of the reward network."""
        return {"reward": ("rewards",)}

    def __call__(self, outputs: Outputs, batch: Batch) -> Terms:
        """Entries [G]: one loss a group; groups without a pair give 0."""
        assert outputs.rewards is not None
        chosen, rejected = batch.pairs.unbind(1)
        gap = outputs.rewards[chosen] - outputs.rewards[rejected]
        delta = gap - self.margin * batch.strengths
        loss = -batch.labels * logsigmoid(delta) - (1 - batch.labels) * logsigmoid(-delta)
        if self.center:
            loss = loss + self.center * (outputs.rewards[chosen] + outputs.rewards[rejected]) ** 2
        right = (gap.detach() > 0).to(gap.dtype) + 0.5 * (gap.detach() == 0).to(gap.dtype)
        return Terms(
            {"bradley_terry": (1.0, Entries(_mean_in_group(loss, batch), "group"))},
            {
                "accuracy": Entries(_mean_in_group(right, batch), "group"),
                "margin": Entries(_mean_in_group(gap.detach(), batch), "group"),
                "score": Entries(outputs.rewards.detach(), "completion"),
            },
        )


def _mean_in_group(per_pair: Float[Tensor, " P"], batch: Batch) -> Float[Tensor, " G"]:
    """Means [G] of per-pair values [P] over each group's pairs."""
    total = per_pair.new_zeros(batch.num_groups).index_add(0, batch.pair_group, per_pair)
    ones = per_pair.new_ones(per_pair.shape)
    pairs = per_pair.new_zeros(batch.num_groups).index_add(0, batch.pair_group, ones)
    return total / pairs.clamp(min=1)
