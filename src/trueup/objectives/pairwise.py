"""Losses on pairs of completions under the policy itself, measured from a reference."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from trueup.engine.batch import Batch, Outputs
from trueup.engine.method import Entries, Terms

Divergence = Literal["reverse_kl", "forward_kl", "jensen_shannon", "alpha"]
STEEPEST = 20.0
"Beyond e^20 an exponential goes on along its tangent, so that no sequence's ratio overflows."


def slope(log_ratio: Float[Tensor, " N"], divergence: Divergence, alpha: float) -> Float[Tensor, " N"]:
    """f'(u) of a divergence E_ρ[f(u)], u = π(y)/ρ(y), from log u; the policy's reward is β f'(u).

    reverse_kl      log u             KL(π ‖ ρ), up to a constant
    forward_kl      −1 / u            KL(ρ ‖ π)
    jensen_shannon  log(2u / (1 + u))
    alpha           (1 − u^−α) / α    its limits are reverse_kl at α → 0 and forward_kl + 1 at α = 1

    u is a sequence's ratio and is never formed: what grows beyond e^20 (forward_kl below log u = −20, alpha
    below −20/α) goes on along its tangent, finite in value and gradient. Reference: Wang et al. 2023.
    """
    if divergence == "reverse_kl":
        return log_ratio
    if divergence == "jensen_shannon":
        return math.log(2) + logsigmoid(log_ratio)
    power = alpha if divergence == "alpha" else 1.0
    exponent = -power * log_ratio
    tangent = math.exp(STEEPEST) * (1 + exponent - STEEPEST) - 1
    grown = torch.where(exponent > STEEPEST, tangent, exponent.clamp(max=STEEPEST).expm1())
    return -1 - grown if divergence == "forward_kl" else -grown / alpha


@dataclass(frozen=True, kw_only=True)
class DPO:
    """The loss of each preference under the policy's implicit reward.

    h(y) = Σ_t [log π_θ(y_t) − log ρ(y_t)],  z = β (g(h(y_w)) − g(h(y_l)))
    L = q ℓ(z) + (1 − q) ℓ(−z) − a [p log π(y_w) / |y_w| + (1 − p) log π(y_l) / |y_l|]
    sigmoid: ℓ(z) = −log σ(z),      q = p + ε (1 − 2p)
    robust:  ℓ(z) = −log σ(z),      q = (p − ε) / (1 − 2ε)
    hinge:   ℓ(z) = max(0, 1 − z),  q = p + ε (1 − 2p)

    p is the label, 1 for a plain choice. Sums of token log-probabilities, never means; ρ is held constant,
    and left out (h = log π) when `reference_free`. At π_θ = ρ the loss is log 2, or 1 for the hinge; the
    gradient of the sigmoid form is −β σ(−z) (∇log π(y_w) − ∇log π(y_l)) for a plain label. g(h) = f'(e^h) is
    `slope` of the divergence from ρ: h itself for the reverse KL, which is DPO. a weighs the mean negative
    log-likelihood of a token of what was chosen (RPO); 0 leaves it out. With ε > 0 the sigmoid form is
    the conservative one; the robust form's q undoes ε exactly: its mean over labels flipped with
    probability ε is the loss of the labels before. References: Rafailov et al. 2023, equation 7;
    Chowdhury et al. 2024 (robust); Liu et al. 2023 (hinge); Wang et al. 2023 (other divergences); Pang et al.
    2024 (RPO).
    """

    beta: float = 0.1
    "Strength of the pull to the reference."
    divergence: Divergence = "reverse_kl"
    "What the pull measures."
    alpha: float = 0.5
    "α of the divergence of that name."
    nll_weight: float = 0.0
    "a: weight of the likelihood of what was chosen."
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
        g = slope(log_ratio, self.divergence, self.alpha)
        z = self.beta * (g[chosen] - g[rejected])
        p, flipped = batch.labels, self.label_smoothing
        q = (p - flipped) / (1 - 2 * flipped) if self.loss == "robust" else p + flipped * (1 - 2 * p)
        loss = q * self._of(z) + (1 - q) * self._of(-z)
        return Terms(
            {"dpo": (1.0, Entries(loss, "pair")), **self._imitating(outputs.logprobs, batch)},
            implicit_rewards(self.beta * g, batch),
        )

    def _imitating(self, logprobs: Float[Tensor, " T"], batch: Batch) -> dict[str, tuple[float, Entries]]:
        """RPO's loss of every pair, where it weighs anything."""
        if not self.nll_weight:
            return {}
        nll = -batch.mean_per_completion(logprobs)[batch.pairs]
        shares = torch.stack([batch.labels, 1 - batch.labels], 1)
        return {"nll": (self.nll_weight, Entries((shares * nll).sum(1), "pair"))}

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
