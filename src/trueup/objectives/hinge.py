"""The hinge on the policy's own log-probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import relu

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

    @property
    def reads(self) -> frozenset[str]:
        """Nothing beyond the pairs."""
        return frozenset()

    @property
    def wants(self) -> Mapping[str, tuple[str, ...]]:
        """Log-probabilities of the policy."""
        return {"policy": ("logprobs",)}

    def __call__(self, outputs: Outputs, batch: Batch) -> Terms:
        """Entries [P]: one loss a pair."""
        assert outputs.logprobs is not None
        logprob = batch.per_completion(outputs.logprobs)
        if self.per_token:
            logprob = logprob / batch.per_completion(outputs.logprobs.new_ones(batch.count("token")))
        chosen, rejected = batch.pairs.unbind(1)
        gap = logprob[chosen] - logprob[rejected]
        loss = batch.labels * relu(self.delta - gap) + (1 - batch.labels) * relu(self.delta + gap)
        said = logprob.detach()
        return Terms(
            {"hinge": (1.0, Entries(loss, "pair"))},
            {
                "logprobs/chosen": Entries(said[chosen], "pair"),
                "logprobs/rejected": Entries(said[rejected], "pair"),
                "logprobs/margins": Entries(gap.detach(), "pair"),
                "logprobs/accuracies": Entries((gap.detach() > 0).to(gap.dtype), "pair"),
            },
        )
