"""Losses on pairs of completions that need no reference: mean log-probabilities alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from trueup.engine.batch import Batch, Outputs
from trueup.engine.method import Entries, Terms
from trueup.objectives.pairwise import implicit_rewards


@dataclass(frozen=True, kw_only=True)
class SimPO:
    """The negative log-likelihood of each preference when mean log-probabilities are the reward.

    m(y) = (1 / T_y) Σ_t log π_θ(y_t),  z = β (m(y_w) − m(y_l))
    L = −p log σ(z − γ) − (1 − p) log σ(−z − γ)

    p is the label. Where both means are equal the loss is log(1 + e^γ). Means, so a longer completion is
    not worse for its length alone. Reference: Meng et al. 2024, section 2.
    """

    beta: float = 2.5
    "How much a gap of one nat a token counts."
    gamma: float = 1.375
    "γ: the margin by which the chosen one's reward is to be ahead."

    reads = frozenset[str]()
    wants = {"policy": ("logprobs",)}

    def __call__(self, outputs: Outputs, batch: Batch) -> Terms:
        """Entries [P]: one loss a pair."""
        assert outputs.logprobs is not None
        reward = self.beta * batch.mean_per_completion(outputs.logprobs)
        chosen, rejected = batch.pairs.unbind(1)
        z = reward[chosen] - reward[rejected]
        p = batch.labels
        loss = -p * logsigmoid(z - self.gamma) - (1 - p) * logsigmoid(-z - self.gamma)
        return Terms({"simpo": (1.0, Entries(loss, "pair"))}, implicit_rewards(reward, batch))


@dataclass(frozen=True, kw_only=True)
class ORPO:
    """The negative log-likelihood of the chosen one, and of its odds being the larger ones.

    m(y) = (1 / T_y) Σ_t log π_θ(y_t),  o(y) = m(y) − log(1 − e^{m(y)}),  z = o(y_w) − o(y_l)
    L = −p m(y_w) − (1 − p) m(y_l) + λ [ −p log σ(z) − (1 − p) log σ(−z) ]

    p is the label. Where both means are equal the second part is λ log 2. Both parts count a pair once;
    prompts take no part in either. Reference: Hong et al. 2024, section 4.
    """

    odds_weight: float = 0.1
    "λ: weight of the odds-ratio part."

    reads = frozenset[str]()
    wants = {"policy": ("logprobs",)}

    def __call__(self, outputs: Outputs, batch: Batch) -> Terms:
        """Entries [P]: two losses a pair."""
        assert outputs.logprobs is not None
        mean = batch.mean_per_completion(outputs.logprobs)
        log_odds = mean - log1mexp(mean)
        chosen, rejected = batch.pairs.unbind(1)
        z, p = log_odds[chosen] - log_odds[rejected], batch.labels
        likelihood = -p * mean[chosen] - (1 - p) * mean[rejected]
        odds = -p * logsigmoid(z) - (1 - p) * logsigmoid(-z)
        return Terms(
            {
                "orpo_nll": (1.0, Entries(likelihood, "pair")),
                "orpo_odds": (self.odds_weight, Entries(odds, "pair")),
            },
            implicit_rewards(log_odds, batch),
        )


def log1mexp(x: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
    """log(1 − e^x) for x ≤ 0, accurate at both ends; x is kept one rounding step below 0.

    Near 0, 1 − e^x cancels, so −expm1(x) is taken; far from it, log1p(−e^x). Reference: Mächler 2012.
    """
    x = x.clamp(max=-torch.finfo(x.dtype).eps)
    return torch.where(x > -math.log(2), torch.log(-torch.expm1(x)), torch.log1p(-torch.exp(x)))
