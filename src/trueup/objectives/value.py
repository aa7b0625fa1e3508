"""Losses for a critic."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from trueup.engine.batch import Batch, Outputs
from trueup.engine.method import Entries, Terms


@dataclass(frozen=True, kw_only=True)
class ClippedValue:
    """Half the squared error of every token's value, the larger of the free and the clipped one.

    L_t = ½ max((V_t − G_t)², (clip(V_t, V_old ± ε) − G_t)²)

    Returns G and old values are held constant. References: Schulman et al. 2017, section 5; Huang et al. 2024
    (implementation details of RLHF with PPO).
    """

    clip: float = 0.2
    "ε: how far a value may move from its old one within a step."
    coefficient: float = 0.1
    "Weight of this loss in the sum."

    reads = frozenset({"old_values", "returns"})
    wants = {"value": ("values",)}

    def __call__(self, outputs: Outputs, batch: Batch) -> Terms:
        """Entries [T]: one loss a token."""
        assert outputs.values is not None
        old, returns = batch.columns["old_values"], batch.columns["returns"]
        moved = old + (outputs.values - old).clamp(-self.clip, self.clip)
        free, held = (outputs.values - returns) ** 2, (moved - returns) ** 2
        return Terms(
            {"value": (self.coefficient, Entries(torch.maximum(free, held) / 2, "token"))},
            {
                "value/clipfrac": Entries((held > free).detach().to(free.dtype), "token"),
                "value/error": Entries(free.detach(), "token"),
            },
        )
