"""Surrogates without a clip: what keeps the policy near the old one stands outside them, or is a penalty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from trueup.engine.batch import Batch, Outputs
from trueup.engine.method import Entries, Terms


@dataclass(frozen=True, kw_only=True)
class Surrogate:
    """The plain surrogate loss of every token.

    ratio_t = exp(log π_θ(y_t) − log π_old(y_t)),  L_t = −A_t ratio_t

    Advantages and old log-probabilities are held constant. At θ = old the loss is minus the mean advantage
    and its gradient is the policy gradient. Nothing here bounds a ratio: the update rule does.
    Reference: Schulman et al. 2015, equation 14.
    """

    reads = frozenset({"old_logprobs", "advantages"})
    wants = {"policy": ("logprobs", "entropy")}

    def __call__(self, outputs: Outputs, batch: Batch) -> Terms:
        """Entries [T]: one loss a token."""
        assert outputs.logprobs is not None and outputs.entropy is not None
        log_ratio = outputs.logprobs - batch.columns["old_logprobs"]
        ratio = log_ratio.exp()
        return Terms(
            {"policy": (1.0, Entries(-batch.columns["advantages"] * ratio, "token"))},
            {
                "policy/approxkl": Entries(log_ratio.detach() ** 2 / 2, "token"),
                "policy/ratio": Entries(ratio.detach(), "token"),
                "policy/entropy": Entries(outputs.entropy.detach(), "token"),
            },
        )


Estimator = Literal["k1", "k3"]


def old_to_new(log_ratio: Float[Tensor, " T"], estimator: Estimator) -> Float[Tensor, " T"]:
    """Each token's estimate of KL(π_old ‖ π_θ), from u = log π_θ(y_t) − log π_old(y_t) at a token of π_old.

    k1 = −u,  k3 = e^u − 1 − u. Under π_old both have the KL as their mean and its gradient as their mean
    gradient, since E_old[e^u] = 1 for every θ; k3 is never negative, and at θ = old its gradient is 0 at
    every token.
    Reference: Schulman 2020.
    """
    return -log_ratio if estimator == "k1" else log_ratio.expm1() - log_ratio


@dataclass(frozen=True, kw_only=True)
class PenalisedSurrogate:
    """The surrogate loss of every token, and a penalty on how far the policy has moved from the old one.

    ratio_t = exp(log π_θ(y_t) − log π_old(y_t)),  k_t ≈ KL(π_old ‖ π_θ)
    L_t = −A_t ratio_t + c (k_t − δ)

    Advantages, old log-probabilities and the coefficient c, the mark `penalty`, are held constant; δ changes
    the loss and not its gradient. At θ = old the loss is −mean(A) − δ mean(c). Reference: Schulman et al.
    2017, equation 8.
    """

    target: float = 0.01
    "δ: KL from the old policy that a step should make, nats a token."
    estimator: Estimator = "k3"
    "How a token estimates KL(π_old ‖ π_θ); see `old_to_new`."

    reads = frozenset({"old_logprobs", "advantages", "penalty"})
    wants = {"policy": ("logprobs", "entropy")}

    def __call__(self, outputs: Outputs, batch: Batch) -> Terms:
        """Entries [T]: one loss a token."""
        plain = Surrogate()(outputs, batch)
        assert outputs.logprobs is not None
        moved = old_to_new(outputs.logprobs - batch.columns["old_logprobs"], self.estimator)
        penalty = batch.marks["penalty"][batch.completion] * (moved - self.target)
        weight, surrogate = plain.losses["policy"]
        return Terms(
            {"policy": (weight, Entries(surrogate.values + penalty, "token"))},
            {**plain.metrics, "policy/old_kl": Entries(moved.detach(), "token")},
        )
