"""Maximum likelihood."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trueup.batch import Batch, Outputs
from trueup.method import Entries, Terms


@dataclass(frozen=True, kw_only=True)
class NLL:
    """The negative log-likelihood of every supervised token.

    ℓ_t(θ) = −log π_θ(y_t | x, y_<t)

    The loop divides the sum by the number of supervised tokens of the whole minibatch, so a short completion
    weighs as its length. Reference: Ouyang et al. 2022, section 3.5 (supervised finetuning).
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
        """Entries [T]: −log π(y_t)."""
        assert outputs.logprobs is not None
        return Terms({"nll": (1.0, Entries(-outputs.logprobs, "token"))})
