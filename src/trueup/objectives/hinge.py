"""The hinge on the policy's own log-probabilities."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, relu

from trueup.engine.batch import Batch, Outputs
from trueup.engine.method import Entries, Terms


@dataclass(frozen=True, kw_only=True)
class Hinge:
    """The hinge of each pair's gap in log-probability, without any reference model.

    g = L(y_w) − L(y_l),  L(y) = Σ_t log π_θ(y_t)
    L_pair = p max(0, δ − g) + (1 − p) max(0, δ + g),  p = the label, 1 for a plain choice

    δ where both are equally likely, 0 from a gap of δ on, where the gradient is 0 too (at the corner by
    convention). Sums favour short completions; `per_token` divides each by its length, and is then another
    loss. References: Sutskever et al. 2014 (the model); Zhao et al. 2022 (rank calibration).
    """

    delta: float = 1.0
    "δ: the gap at which a pair stops pushing, in nats."
    per_token: bool = False
    "Means of token log-probabilities in place of sums."

    reads = frozenset[str]()
    wants = {"policy": ("logprobs",)}

    def __call__(self, outputs: Outputs, batch: Batch) -> Terms:
        """Entries [P]: one loss a pair."""
        assert outputs.logprobs is not None
        over_tokens = batch.mean_per_completion if self.per_token else batch.per_completion
        logprob = over_tokens(outputs.logprobs)
        chosen, rejected = batch.pairs.unbind(1)
        gap = logprob[chosen] - logprob[rejected]
        loss = batch.labels * relu(self.delta - gap) + (1 - batch.labels) * relu(self.delta + gap)
        return Terms({"hinge": (1.0, Entries(loss, "pair"))}, pair_logprobs(logprob, batch))


def pair_logprobs(logprob: Float[Tensor, " N"], batch: Batch) -> dict[str, Entries]:
    """What losses on log-probabilities themselves log of each pair, without gradient."""
    chosen, rejected = logprob.detach()[batch.pairs].unbind(1)
    metrics: dict[str, Entries] = {}
    metrics["logprobs/chosen"] = Entries(chosen, "pair")
    metrics["logprobs/rejected"] = Entries(rejected, "pair")
    metrics["logprobs/margins"] = Entries(chosen - rejected, "pair")
    metrics["logprobs/accuracies"] = Entries((chosen > rejected).to(chosen.dtype), "pair")
    return metrics
