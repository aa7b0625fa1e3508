"""Losses on pairs of completions under the policy itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch.nn.functional import logsigmoid

from trueup.batch import Batch, Outputs
from trueup.method import Entries, Terms


@dataclass(frozen=True, kw_only=True)
class DPO:
    """The negative log-likelihood of each preference under the policy's implicit reward.

    h(y) = Σ_t [log π_θ(y_t) − log ρ(y_t)],  z = β (h(y_w) − h(y_l))
    L = −p log σ(z) − (1 − p) log σ(−z),  p = (1 − ε)·label + ε·(1 − label)

    Sums of token log-probabilities, never means; ρ is held constant. At π_θ = ρ the loss is log 2, and its
    gradient is −β σ(−z) (∇log π(y_w) − ∇log π(y_l)) for a plain label. ε > 0 is the conservative form.
    Reference: Rafailov et al. 2023, equation 7.
    """

    beta: float = 0.1
    "Strength of the pull to the reference."
    label_smoothing: float = 0.0
    "ε, the share of labels assumed to be flipped."

    @property
    def reads(self) -> frozenset[str]:
        """The reference's log-probabilities."""
        return frozenset({"ref_logprobs"})

    @property
    def wants(self) -> Mapping[str, tuple[str, ...]]:
        """Log-probabilities of the policy."""
        return {"policy": ("logprobs",)}

    def __call__(self, outputs: Outputs, batch: Batch) -> Terms:
        """Entries [P]: one loss a pair."""
        assert outputs.logprobs is not None
        log_ratio = batch.per_completion(outputs.logprobs - batch.columns["ref_logprobs"])
        chosen, rejected = batch.pairs.unbind(1)
        z = self.beta * (log_ratio[chosen] - log_ratio[rejected])
        p = (1 - self.label_smoothing) * batch.labels + self.label_smoothing * (1 - batch.labels)
        loss = -p * logsigmoid(z) - (1 - p) * logsigmoid(-z)
        reward = self.beta * log_ratio.detach()
        return Terms(
            {"dpo": (1.0, Entries(loss, "pair"))},
            {
                "rewards/chosen": Entries(reward[chosen], "pair"),
                "rewards/rejected": Entries(reward[rejected], "pair"),
                "rewards/margins": Entries(z.detach(), "pair"),
                "rewards/accuracies": Entries((z.detach() > 0).to(z.dtype), "pair"),
            },
        )
