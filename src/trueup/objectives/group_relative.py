"""The clipped loss of group-relative methods, with the pull to the reference inside the loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from trueup.engine.batch import Batch, Outputs
from trueup.engine.method import Entries, Terms
from trueup.objectives.policy_gradient import clipped, entropy_bonus, weighted


def k3(logprobs: Float[Tensor, " n"], ref_logprobs: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """e^u − 1 − u with u = log ρ − log π: never negative, on average KL(π ‖ ρ). Schulman 2020."""
    u = ref_logprobs - logprobs
    return torch.expm1(u) - u


@dataclass(frozen=True, kw_only=True)
class GroupRelative:
    """The clipped loss of every token plus β times an estimate of the divergence from the reference.

    ratio_t = exp(log π_θ(y_t) − log π_old(y_t)),  u_t = log ρ(y_t) − log π_θ(y_t),  k3_t = e^{u_t} − 1 − u_t
    ℓ_t = max(−A_i ratio_t, −A_i clip(ratio_t, 1 − ε, 1 + ε_high)) + β k_t,  k_t = k3_t or ratio_t k3_t
    L = mean_i (1/T_i) Σ_t ℓ_t − η mean_t H_t
    dual clip: where A_i < 0 the maximum is at most −c A_i

    `average` chooses the last line: `completion` is this one; `token` divides Σ_i Σ_t ℓ_t by the minibatch's
    tokens (DAPO); `constant` is mean_i Σ_t ℓ_t / longest (Dr. GRPO). The entropy H_t of a next token's
    distribution is averaged over tokens in each. Advantages, old and reference
    log-probabilities are held constant. On the policy's own samples the gradient of k3 is that of KL(ρ ‖ π)
    at each token, and of ratio · k3 that of KL(π ‖ ρ).
    References: Shao et al. 2024, equations 3 and 4; Yu et al. 2025 (DAPO); Liu et al. 2025 (Dr. GRPO);
    Ye et al. 2020 (dual clip).
    """

    beta: float = 0.04
    "β: weight of the divergence."
    penalty: Literal["k3", "ratio_k3"] = "k3"
    clip: float = 0.2
    "ε: how far below 1 a ratio may move before its token stops pushing."
    clip_high: float | None = None
    "ε_high: how far above 1; None is `clip`."
    dual_clip: float | None = None
    "c: the ratio beyond which a token of negative advantage stops pushing; None is no bound."
    entropy: float = 0.0
    "η: weight of the entropy bonus."
    average: Literal["completion", "token", "constant"] = "completion"
    longest: int = 1
    "What `constant` divides by: the longest completion that could be sampled."

    reads = frozenset({"old_logprobs", "ref_logprobs", "advantage"})
    wants = {"policy": ("logprobs", "entropy")}

    def __call__(self, outputs: Outputs, batch: Batch) -> Terms:
        """Entries [N] (or [T] with `token`): the clipped loss and the divergence."""
        assert outputs.logprobs is not None and outputs.entropy is not None
        old, ref = batch.columns["old_logprobs"], batch.columns["ref_logprobs"]
        advantage = weighted(batch.marks["advantage"][batch.completion], batch)
        log_ratio = outputs.logprobs - old
        ratio = log_ratio.exp()
        high = self.clip if self.clip_high is None else self.clip_high
        loss = clipped(ratio, advantage, low=self.clip, high=high, dual=self.dual_clip)
        divergence = k3(outputs.logprobs, ref) * (ratio if self.penalty == "ratio_k3" else 1.0)
        return Terms(
            {
                "policy": (1.0, self._averaged(loss, batch)),
                "divergence": (self.beta, self._averaged(divergence, batch)),
                **entropy_bonus(outputs, self.entropy),
            },
            {
                "policy/clipfrac": Entries((loss != -advantage * ratio).detach().to(loss.dtype), "token"),
                "policy/approxkl": Entries(log_ratio.detach() ** 2 / 2, "token"),
                "policy/ratio": Entries(ratio.detach(), "token"),
                "policy/entropy": Entries(outputs.entropy.detach(), "token"),
                "kl": Entries(batch.per_completion(old - ref), "completion"),
            },
        )

    def _averaged(self, values: Tensor, batch: Batch) -> Entries:
        if self.average == "token":
            return Entries(values, "token")
        if self.average == "constant":
            return Entries(batch.per_completion(values) / self.longest, "completion")
        return Entries(batch.mean_per_completion(values), "completion")
