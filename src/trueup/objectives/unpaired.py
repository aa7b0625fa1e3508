"""Losses on completions that were called good or bad one by one."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from trueup.engine.batch import Batch, Outputs
from trueup.engine.method import Entries, Terms


@dataclass(frozen=True, kw_only=True)
class KTO:
    """One minus the value a person is modelled to see in each completion, gains and losses apart.

    h(y) = Σ_t [log π_θ(y_t) − log ρ(y_t)]
    good: L = λ_D (1 − σ(β (h(y) − z0))),   bad: L = λ_U (1 − σ(β (z0 − h(y))))

    A completion is good where its mark `desirable` is above 0. ρ and z0, the mark `kl_baseline`, are held
    constant. At π_θ = ρ, where z0 = 0, the loss is λ/2 and |∂L/∂h| = λβ/4. Sums of token log-probabilities,
    never means. Reference: Ethayarajh et al. 2024, section 4.
    """

    beta: float = 0.1
    "Strength of the pull to the reference."
    desirable_weight: float = 1.0
    "λ_D."
    undesirable_weight: float = 1.0
    "λ_U."

    reads = frozenset({"ref_logprobs", "desirable", "kl_baseline"})
    wants = {"policy": ("logprobs",)}

    def __call__(self, outputs: Outputs, batch: Batch) -> Terms:
        """Entries [N]: one loss a completion."""
        assert outputs.logprobs is not None
        good = batch.marks["desirable"] > 0
        log_ratio = batch.per_completion(outputs.logprobs - batch.columns["ref_logprobs"])
        ahead = self.beta * (log_ratio - batch.marks["kl_baseline"])
        gain = torch.where(good, ahead, -ahead)
        lost = torch.sigmoid(-gain)  # = 1 − σ(gain), without cancelling where the gain is large
        loss = torch.where(good, self.desirable_weight * lost, self.undesirable_weight * lost)
        return Terms(
            {"kto": (1.0, Entries(loss, "completion"))},
            {
                "kto/margin": Entries(gain.detach(), "completion"),
                "kto/accuracy": Entries((gain.detach() > 0).to(gain.dtype), "completion"),
                "kto/desirable": Entries(good.to(gain.dtype), "completion"),
            },
        )
