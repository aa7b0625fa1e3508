"""Advantages matched by squared error in place of a gradient of expectations."""

from __future__ import annotations

from dataclasses import dataclass

from trueup.engine.batch import Batch, Outputs
from trueup.engine.method import Entries, Terms


@dataclass(frozen=True, kw_only=True)
class APA:
    """The squared gap of every token's log-probability from its target.

    L_t = (log π_θ(y_t) − A_t / β − log ρ(y_t))²

    Its minimum is 0 at π = ρ e^{A/β} wherever Σ_a ρ(a) e^{A(a)/β} = 1, whatever policy with full support
    wrote the completions. The sign before A is minus inside the square. Advantages and reference
    log-probabilities are held constant; β is the paper's λ, and β → ∞ copies ρ. Reference: Zhu et al. 2023.
    """

    beta: float = 1.0
    "β: how many nats an advantage of 1 is worth is 1/β."

    reads = frozenset({"advantages", "ref_logprobs"})
    wants = {"policy": ("logprobs", "entropy")}

    def __call__(self, outputs: Outputs, batch: Batch) -> Terms:
        """Entries [T]: one loss a token."""
        assert outputs.logprobs is not None and outputs.entropy is not None
        target = batch.columns["ref_logprobs"] + batch.columns["advantages"] / self.beta
        return Terms(
            {"policy": (1.0, Entries((outputs.logprobs - target) ** 2, "token"))},
            {"policy/entropy": Entries(outputs.entropy.detach(), "token")},
        )
