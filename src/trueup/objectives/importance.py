"""What a ratio to the old policy is taken of, and what it may do: whole completions, or weights alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from trueup.engine.batch import Batch, Outputs
from trueup.engine.method import Entries, Terms
from trueup.objectives.group_relative import k3
from trueup.objectives.policy_gradient import clipped, entropy_bonus, weighted


@dataclass(frozen=True, kw_only=True)
class GSPO:
    """The clipped loss of every completion, whose ratio is the geometric mean of its tokens' ratios.

    s_i = exp((1/T_i) Σ_t [log π_θ(y_t) − log π_old(y_t)])
    L_i = max(−A_i s_i, −A_i clip(s_i, 1 − ε, 1 + ε_high)) + (β/T_i) Σ_t k3_t

    One clip for all tokens of a completion: either it teaches, or none of them does. Advantages, old and
    reference log-probabilities are held constant. At θ = old the gradient is that of −A_i (1/T_i) log π(y_i),
    the same as `GroupRelative`'s with the mean over each completion; for completions of one token both are
    the same everywhere. Reference: Zheng et al. 2025.
    """

    clip: float = 3e-4
    "ε: how far below 1 a completion's ratio may move before it stops pushing."
    clip_high: float = 4e-4
    "ε_high: how far above 1."
    beta: float = 0.0
    "β: weight of the divergence from the reference."
    entropy: float = 0.0
    "Weight of the entropy bonus."

    reads = frozenset({"old_logprobs", "ref_logprobs", "advantage"})
    wants = {"policy": ("logprobs", "entropy")}

    def __call__(self, outputs: Outputs, batch: Batch) -> Terms:
        """Entries [N]: the clipped loss and the divergence."""
        assert outputs.logprobs is not None
        log_ratio = outputs.logprobs - batch.columns["old_logprobs"]
        ratio, advantage = batch.mean_per_completion(log_ratio).exp(), batch.marks["advantage"]
        loss = clipped(ratio, advantage, low=self.clip, high=self.clip_high)
        pull = batch.mean_per_completion(k3(outputs.logprobs, batch.columns["ref_logprobs"]))
        return Terms(
            {
                "policy": (1.0, Entries(loss, "completion")),
                "divergence": (self.beta, Entries(pull, "completion")),
                **entropy_bonus(outputs, self.entropy),
            },
            {
                "policy/clipfrac": Entries(
                    (loss != -advantage * ratio).detach().to(loss.dtype), "completion"
                ),
                "policy/ratio": Entries(ratio.detach(), "completion"),
                **_moved(log_ratio, outputs, batch),
            },
        )


@dataclass(frozen=True, kw_only=True)
class CISPO:
    """The log-probability of every token, weighted by its clipped ratio and advantage.

    ratio_t = exp(log π_θ(y_t) − log π_old(y_t)),  w_t = sg[clip(ratio_t, 1 − ε_low, 1 + ε_high)]
    L_t = −A_i w_t (1 + log ratio_t − log w_t) + β k3_t

    The gradient of the first part is that of −A_i w_t log π_θ(y_t), the paper's loss: the clip bounds a
    weight that has no gradient, so that every token keeps teaching however far the policy has moved. What is
    added is constant in that gradient; with it the value is −A_i ratio_t where nothing is clipped, and goes
    on along its tangent in log ratio_t where something is. Advantages, old and reference log-probabilities
    are held constant. At θ = old the gradient is that of REINFORCE, −A_i ∇log π(y_t). Reference: MiniMax 2025
    (MiniMax-M1).
    """

    clip_low: float | None = None
    "ε_low: the least weight is 1 − ε_low; None sets no lower bound."
    clip_high: float = 4.0
    "ε_high: the largest weight is 1 + ε_high."
    beta: float = 0.0
    "β: weight of the divergence from the reference."
    entropy: float = 0.0
    "Weight of the entropy bonus."

    reads = frozenset({"old_logprobs", "ref_logprobs", "advantage"})
    wants = {"policy": ("logprobs", "entropy")}

    def __call__(self, outputs: Outputs, batch: Batch) -> Terms:
        """Entries [T]: the weighted log-probability and the divergence."""
        assert outputs.logprobs is not None
        log_ratio = outputs.logprobs - batch.columns["old_logprobs"]
        lowest = -math.inf if self.clip_low is None else math.log(1 - self.clip_low)
        held = log_ratio.detach().clamp(lowest, math.log(1 + self.clip_high))
        pushed = held.exp() * (1 + log_ratio - held)
        loss = -weighted(batch.marks["advantage"][batch.completion], batch) * pushed
        pull = k3(outputs.logprobs, batch.columns["ref_logprobs"])
        return Terms(
            {
                "policy": (1.0, Entries(loss, "token")),
                "divergence": (self.beta, Entries(pull, "token")),
                **entropy_bonus(outputs, self.entropy),
            },
            {
                "policy/clipfrac": Entries((held != log_ratio).detach().to(loss.dtype), "token"),
                "policy/ratio": Entries(log_ratio.detach().exp(), "token"),
                **_moved(log_ratio, outputs, batch),
            },
        )


def _moved(log_ratio: Float[Tensor, " T"], outputs: Outputs, batch: Batch) -> dict[str, Entries]:
    """How far the policy is from the old one and from the reference, and its entropy."""
    assert outputs.entropy is not None
    metrics: dict[str, Entries] = {}
    metrics["policy/approxkl"] = Entries(log_ratio.detach() ** 2 / 2, "token")
    metrics["policy/entropy"] = Entries(outputs.entropy.detach(), "token")
    kl = batch.per_completion(batch.columns["old_logprobs"] - batch.columns["ref_logprobs"])
    metrics["kl"] = Entries(kl, "completion")
    return metrics
