"""Hinge losses on the policy's own log-probabilities, and the likelihood that keeps it near a target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import relu

from trueup.batch import Batch, Outputs
from trueup.method import Entries, Terms


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


@dataclass(frozen=True, kw_only=True)
class TargetNLL:
    """The negative log-likelihood of each pair's target: the completion the policy shall stay close to.

    L_pair = −Σ_t log π_θ(y_ref,t)

    With `chosen` y_ref is the pair's preferred completion, with `best` the best of the whole group (the mark
    `best` says which). Sums over tokens. Reference: Zhao et al. 2023 (SLiC-HF, the regularisation term).
    """

    target: Literal["chosen", "best"] = "chosen"

    @property
    def reads(self) -> frozenset[str]:
        """Which completion is a group's best, if that is the target."""
        return frozenset({"best"} if self.target == "best" else ())

    @property
    def wants(self) -> Mapping[str, tuple[str, ...]]:
        """Log-probabilities of the policy."""
        return {"policy": ("logprobs",)}

    def __call__(self, outputs: Outputs, batch: Batch) -> Terms:
        """Entries [P]: one loss a pair."""
        assert outputs.logprobs is not None
        logprob = batch.per_completion(outputs.logprobs)
        if self.target == "best":
            of_group = logprob.new_zeros(batch.num_groups)
            logprob = of_group.index_add(0, batch.group, batch.marks["best"] * logprob)[batch.pair_group]
        else:
            chosen, rejected = batch.pairs.unbind(1)
            logprob = batch.labels * logprob[chosen] + (1 - batch.labels) * logprob[rejected]
        return Terms({"target": (1.0, Entries(-logprob, "pair"))})


@dataclass(frozen=True, kw_only=True)
class DemonstrationNLL:
    """The negative log-likelihood of each demonstration, summed over its tokens.

    L(y) = −Σ_t log π_θ(y_t)

    The target of SLiC-HF when it is the supervised data's own completion, which stands in no pair. Reference:
    Zhao et al. 2023.
    """

    @property
    def reads(self) -> frozenset[str]:
        """Nothing beyond the tokens."""
        return frozenset()

    @property
    def wants(self) -> Mapping[str, tuple[str, ...]]:
        """Log-probabilities of the policy."""
        return {"policy": ("logprobs",)}

    def __call__(self, outputs: Outputs, batch: Batch) -> Terms:
        """Entries [N]: one loss a demonstration."""
        assert outputs.logprobs is not None
        logprob = batch.per_completion(outputs.logprobs)
        return Terms({"demonstrations": (1.0, Entries(-logprob, "completion"))})
