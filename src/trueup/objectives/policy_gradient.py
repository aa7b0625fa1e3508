"""Losses that raise the probability of what turned out well."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from trueup.engine.batch import Batch, Outputs
from trueup.engine.method import Entries, Terms


def clipped(
    ratio: Float[Tensor, " n"],
    advantages: Float[Tensor, " n"],
    *,
    low: float,
    high: float,
    dual: float | None = None,
) -> Float[Tensor, " n"]:
    """max(−A r, −A clip(r, 1 − low, 1 + high)); with `dual` = c, at most −c A where A < 0.

    Without c, a token with A < 0 pushes with −A r however large r is. References: Schulman et al. 2017,
    equation 7; Ye et al. 2020 (c).
    """
    free = -advantages * ratio
    held = torch.maximum(free, -advantages * ratio.clamp(1 - low, 1 + high))
    if dual is None:
        return held
    return torch.where(advantages < 0, torch.minimum(held, -dual * advantages), held)


def entropy_bonus(outputs: Outputs, weight: float) -> dict[str, tuple[float, Entries]]:
    """The loss −weight · H, H the mean entropy of a next token's distribution; nothing where weight is 0."""
    assert outputs.entropy is not None
    return {"entropy": (-weight, Entries(outputs.entropy, "token"))} if weight else {}


def weighted(values: Float[Tensor, " T"], batch: Batch) -> Float[Tensor, " T"]:
    """The values, times the `importance` of each token where tokens have one; see `mismatch`."""
    return values * batch.columns["importance"] if "importance" in batch.columns else values


@dataclass(frozen=True, kw_only=True)
class Clipped:
    """The clipped surrogate loss of every token, with an entropy bonus where one is asked for.

    ratio_t = exp(log π_θ(y_t) − log π_old(y_t))
    L_t = max(−A_t ratio_t, −A_t clip(ratio_t, 1 − ε, 1 + ε)) − η H_t
    dual clip: where A_t < 0 the maximum is at most −c A_t

    Advantages and old log-probabilities are held constant. At θ = old every ratio is 1, nothing is clipped
    and the gradient is the policy gradient; a token's gradient is 0 exactly where A > 0 and ratio > 1 + ε, or
    A < 0 and ratio < 1 − ε; with a dual clip also where A < 0 and ratio > c. H_t is the entropy of the
    next-token distribution. References: Schulman et al. 2017, equations 7 and 9; Ye et al. 2020 (dual clip).
    """

    clip: float = 0.2
    "ε: how far a ratio may move before its token stops pushing."
    dual_clip: float | None = None
    "c: the ratio beyond which a token of negative advantage stops pushing; None is no bound."
    entropy: float = 0.0
    "η: weight of the entropy bonus."

    reads = frozenset({"old_logprobs", "advantages"})
    wants = {"policy": ("logprobs", "entropy")}

    def __call__(self, outputs: Outputs, batch: Batch) -> Terms:
        """Entries [T]: one loss a token."""
        assert outputs.logprobs is not None and outputs.entropy is not None
        log_ratio = outputs.logprobs - batch.columns["old_logprobs"]
        ratio = log_ratio.exp()
        advantages = batch.columns["advantages"]
        loss = clipped(ratio, advantages, low=self.clip, high=self.clip, dual=self.dual_clip)
        return Terms(
            {"policy": (1.0, Entries(loss, "token")), **entropy_bonus(outputs, self.entropy)},
            {
                "policy/clipfrac": Entries((loss != -advantages * ratio).detach().to(loss.dtype), "token"),
                "policy/approxkl": Entries(log_ratio.detach() ** 2 / 2, "token"),
                "policy/ratio": Entries(ratio.detach(), "token"),
                "policy/entropy": Entries(outputs.entropy.detach(), "token"),
            },
        )
