"""Losses that raise the probability of what turned out well."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from trueup.engine.batch import Batch, Outputs
from trueup.engine.method import Entries, Terms


@dataclass(frozen=True, kw_only=True)
class Clipped:
    """The clipped surrogate loss of every token.

    ratio_t = exp(log π_θ(y_t) − log π_old(y_t))
    L_t = max(−A_t ratio_t, −A_t clip(ratio_t, 1 − ε, 1 + ε))

    Advantages and old log-probabilities are held constant. At θ = old every ratio is 1, nothing is clipped
    and the gradient is the policy gradient; a token's gradient is 0 exactly where A > 0 and ratio > 1 + ε, or
    A < 0 and ratio < 1 − ε. Reference: Schulman et al. 2017, equation 7.
    """

    clip: float = 0.2
    "ε: how far a ratio may move before its token stops pushing."

    reads = frozenset({"old_logprobs", "advantages"})
    wants = {"policy": ("logprobs", "entropy")}

    def __call__(self, outputs: Outputs, batch: Batch) -> Terms:
        """Entries [T]: one loss a token."""
        assert outputs.logprobs is not None and outputs.entropy is not None
        log_ratio = outputs.logprobs - batch.columns["old_logprobs"]
        ratio = log_ratio.exp()
        advantages = batch.columns["advantages"]
        free = -advantages * ratio
        held = -advantages * ratio.clamp(1 - self.clip, 1 + self.clip)
        return Terms(
            {"policy": (1.0, Entries(torch.maximum(free, held), "token"))},
            {
                "policy/clipfrac": Entries((held > free).detach().to(free.dtype), "token"),
                "policy/approxkl": Entries(log_ratio.detach() ** 2 / 2, "token"),
                "policy/ratio": Entries(ratio.detach(), "token"),
                "policy/entropy": Entries(outputs.entropy.detach(), "token"),
            },
        )
