"""Policy gradients that treat a whole completion as one action."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from trueup.engine.batch import Batch, Outputs
from trueup.engine.method import Entries, Terms
from trueup.objectives.policy_gradient import weighted


@dataclass(frozen=True, kw_only=True)
class Reinforce:
    """The score-function loss of every completion: its gradient, not its value, means something.

    L_i = −A_i Σ_t log π_θ(y_t)

    The sum is over tokens, the end token included, and is not divided by the length; the loop takes the mean
    over completions. Advantages are held constant. For completions of the policy itself the expected gradient
    is −∇ E_π[R]. Reference: Williams 1992.
    """

    reads = frozenset({"advantage"})
    wants = {"policy": ("logprobs", "entropy")}

    def __call__(self, outputs: Outputs, batch: Batch) -> Terms:
        """Entries [N]: one loss a completion."""
        assert outputs.logprobs is not None and outputs.entropy is not None
        loss = -batch.marks["advantage"] * batch.per_completion(weighted(outputs.logprobs, batch))
        return Terms(
            {"policy": (1.0, Entries(loss, "completion"))},
            {"policy/entropy": Entries(outputs.entropy.detach(), "token")},
        )


@dataclass(frozen=True, kw_only=True)
class ClippedSequence:
    """The clipped surrogate loss of every completion, whose ratio is that of the whole completion.

    ratio_i = exp Σ_t [log π_θ(y_t) − log π_old(y_t)]
    L_i = max(−A_i ratio_i, −A_i clip(ratio_i, 1 − ε, 1 + ε))

    Advantages and old log-probabilities are held constant. At θ = old the value is −A_i and the gradient that
    of `Reinforce`. References: Ahmadian et al. 2024; Schulman et al. 2017.
    """

    clip: float = 0.2
    "ε: how far a completion's ratio may move before it stops pushing."

    reads = frozenset({"old_logprobs", "advantage"})
    wants = {"policy": ("logprobs", "entropy")}

    def __call__(self, outputs: Outputs, batch: Batch) -> Terms:
        """Entries [N]: one loss a completion."""
        assert outputs.logprobs is not None and outputs.entropy is not None
        ratio = batch.per_completion(outputs.logprobs - batch.columns["old_logprobs"]).exp()
        advantage = batch.marks["advantage"]
        free = -advantage * ratio
        held = -advantage * ratio.clamp(1 - self.clip, 1 + self.clip)
        return Terms(
            {"policy": (1.0, Entries(torch.maximum(free, held), "completion"))},
            {
                "policy/clipfrac": Entries((held > free).detach().to(free.dtype), "completion"),
                "policy/ratio": Entries(ratio.detach(), "completion"),
                "policy/entropy": Entries(outputs.entropy.detach(), "token"),
            },
        )
