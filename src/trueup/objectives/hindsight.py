"""Losses that tie a completion to the instruction it satisfied."""

from __future__ import annotations

from dataclasses import dataclass

from torch.nn.functional import logsigmoid

from trueup.engine.batch import Batch, Outputs
from trueup.engine.method import Entries, Terms


@dataclass(frozen=True, kw_only=True)
class Hindsight:
    """Label-smoothed likelihood under the instruction that holds, contrast with the one that does not.

    m±(y) = (1 / |y|) Σ_t log π_θ(y_t | x, p±, y_<t),  P± = exp(m±)
    nll = (1 / |y|) Σ_t [ −(1 − ε) log π_θ(y_t) − (ε / V) Σ_v log π_θ(v) ] under p⁺
    contrastive = −(1 − ε) log(P⁺ / (P⁺ + P⁻)) − ε log(P⁻ / (P⁺ + P⁻))
    L = nll + c · contrastive − e · H,  H the mean entropy of a next token under p⁺

    A pair is one completion twice: after the instruction p⁺ that it satisfied, then after the opposite p⁻.
    Since P⁺ / (P⁺ + P⁻) = σ(m⁺ − m⁻), the contrast is log 2 where both instructions give y one probability,
    and least at m⁺ − m⁻ = log((1 − ε) / ε). With ε = c = e = 0 this is likelihood alone.
    Reference: Zhang et al. 2023 (two-stage hindsight relabelling and its losses).
    """

    smoothing: float = 0.0
    "ε; the paper's code has 0.2."
    contrastive: float = 1.0
    "c."
    entropy: float = 0.001
    "e."

    reads = frozenset[str]()
    wants = {"policy": ("logprobs", "distributions")}

    def __call__(self, outputs: Outputs, batch: Batch) -> Terms:
        """Entries [P]: three losses a pair."""
        assert outputs.logprobs is not None and outputs.distributions is not None
        holds, fails = batch.pairs.unbind(1)
        table = outputs.distributions
        spread = (1 - self.smoothing) * outputs.logprobs + self.smoothing * table.mean(-1)
        mean = batch.mean_per_completion(outputs.logprobs)
        gap = mean[holds] - mean[fails]
        contrast = -(1 - self.smoothing) * logsigmoid(gap) - self.smoothing * logsigmoid(-gap)
        entropy = batch.mean_per_completion(-(table.exp() * table).sum(-1))
        return Terms(
            {
                "nll": (1.0, Entries(-batch.mean_per_completion(spread)[holds], "pair")),
                "contrastive": (self.contrastive, Entries(contrast, "pair")),
                "entropy": (-self.entropy, Entries(entropy[holds], "pair")),
            },
            {"hindsight/gap": Entries(gap.detach(), "pair")},
        )
