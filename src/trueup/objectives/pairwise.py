"""Losses on pairs of completions under the policy itself, measured from a reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from trueup.engine.batch import Batch, Outputs
from trueup.engine.method import Entries, Terms


@dataclass(frozen=True, kw_only=True)
class DPO:
    """The loss of each preference under the policy's implicit reward.

    h(y) = Σ_t [log π_θ(y_t) − log ρ(y_t)],  z = β (h(y_w) − h(y_l))
    L = q ℓ(z) + (1 − q) ℓ(−z)
    sigmoid: ℓ(z) = −log σ(z),      q = p + ε (1 − 2p)
    robust:  ℓ(z) = −log σ(z),      q = (p − ε) / (1 − 2ε)
    hinge:   ℓ(z) = max(0, 1 − z),  q = p + ε (1 − 2p)

    p is the label, 1 for a plain choice. Sums of token log-probabilities, never means; ρ is held constant,
    and left out (h = log π) when `reference_free`. At π_θ = ρ the loss is log 2, or 1 for the hinge; the
    gradient of the sigmoid form is −β σ(−z) (∇log π(y_w) − ∇log π(y_l)) for a plain label. With ε > 0 the
    sigmoid form is the conservative one; the robust form's q undoes ε exactly: its mean over labels flipped
    with probability ε is the loss of the labels before. References: Rafailov et al. 2023, equation 7;
    Chowdhury et al. 2024 (robust); Liu et al. 2023 (hinge).
    """

    beta: float = 0.1
    "Strength of the pull to the reference."
    loss: Literal["sigmoid", "robust", "hinge"] = "sigmoid"
    label_smoothing: float = 0.0
    "ε, the share of labels assumed to be flipped."
    reference_free: bool = False
    "Leave the reference out."

    @property
    def reads(self) -> frozenset[str]:
        """The reference's log-probabilities, unless it is left out."""
        return frozenset() if self.reference_free else frozenset({"ref_logprobs"})

    wants = {"policy": ("logprobs",)}

    def __call__(self, outputs: Outputs, batch: Batch) -> Terms:
        """Entries [P]: one loss a pair."""
        assert outputs.logprobs is not None
        reference = 0.0 if self.reference_free else batch.columns["ref_logprobs"]
        log_ratio = batch.per_completion(outputs.logprobs - reference)
        chosen, rejected = batch.pairs.unbind(1)
        z = self.beta * (log_ratio[chosen] - log_ratio[rejected])
        p, flipped = batch.labels, self.label_smoothing
        q = (p - flipped) / (1 - 2 * flipped) if self.loss == "robust" else p + flipped * (1 - 2 * p)
        loss = q * self._of(z) + (1 - q) * self._of(-z)
        return Terms({"dpo": (1.0, Entries(loss, "pair"))}, implicit_rewards(self.beta * log_ratio, batch))

    def _of(self, z: Float[Tensor, " P"]) -> Float[Tensor, " P"]:
        """ℓ(z)."""
        return (1 - z).clamp(min=0) if self.loss == "hinge" else -logsigmoid(z)


@dataclass(frozen=True, kw_only=True)
class IPO:
    """The squared distance of each pair's gap from the one its label asks for.

    h(y) = (1 / T_y) Σ_t [log π_θ(y_t) − log ρ(y_t)],  Δ = h(y_w) − h(y_l)
    L = p (Δ − 1 / (2β))² + (1 − p) (Δ + 1 / (2β))²

    β is the paper's τ, p the label, T_y the number of the completion's tokens; with `log_ratio` "sum" h is
    the sum, as the paper's formula reads. ρ is held constant. At π_θ = ρ the loss is 1 / (4β²), and it is
    least at Δ = (p − ½) / β: bounded even where labels are certain, unlike DPO's.
    Reference: Azar et al. 2023, equation 17.
    """

    beta: float = 0.1
    "Strength of the pull to the reference: the paper's τ."
    log_ratio: Literal["mean", "sum"] = "mean"
    "Over a completion's tokens."

    reads = frozenset({"ref_logprobs"})
    wants = {"policy": ("logprobs",)}

    def __call__(self, outputs: Outputs, batch: Batch) -> Terms:
        """Entries [P]: one loss a pair."""
        assert outputs.logprobs is not None
        per_token = outputs.logprobs - batch.columns["ref_logprobs"]
        over_tokens = batch.mean_per_completion if self.log_ratio == "mean" else batch.per_completion
        log_ratio = over_tokens(per_token)
        chosen, rejected = batch.pairs.unbind(1)
        gap, wanted = log_ratio[chosen] - log_ratio[rejected], 1 / (2 * self.beta)
        loss = batch.labels * (gap - wanted) ** 2 + (1 - batch.labels) * (gap + wanted) ** 2
        return Terms({"ipo": (1.0, Entries(loss, "pair"))}, implicit_rewards(self.beta * log_ratio, batch))


def implicit_rewards(reward: Float[Tensor, " N"], batch: Batch) -> dict[str, Entries]:
    """What every loss on pairs logs of the reward it compares, without gradient."""
    first, second = reward.detach()[batch.pairs].unbind(1)
    metrics: dict[str, Entries] = {}
    metrics["rewards/chosen"] = Entries(first, "pair")
    metrics["rewards/rejected"] = Entries(second, "pair")
    metrics["rewards/margins"] = Entries(first - second, "pair")
    metrics["rewards/accuracies"] = Entries((first > second).to(first.dtype), "pair")
    return metrics
