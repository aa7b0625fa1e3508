"""Maximum likelihood."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from trueup.engine.batch import Batch, Outputs
from trueup.engine.method import Entries, Terms


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


@dataclass(frozen=True, kw_only=True)
class TextNLL:
    """The mean negative log-likelihood of a token within each sequence: the language-modelling loss.

    L(y) = −(1 / |y|) Σ_t log π_θ(y_t | x, y_<t)

    Every sequence weighs the same, however long. A uniform model has log V. References: Radford et al. 2018,
    equation 5 (added to a task's loss), and its code for the mean within a sequence.
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
        """Entries [N]: one loss a sequence."""
        assert outputs.logprobs is not None
        return Terms({"lm": (1.0, Entries(-mean_logprobs(outputs.logprobs, batch), "completion"))})


@dataclass(frozen=True, kw_only=True)
class Imitation:
    """The negative log-likelihood of what was chosen, and how often likelihood ranks a pair rightly.

    ℓ_t(θ) = −w(y) log π_θ(y_t | x, y_<t)
    score(y) = (1 / |y|) Σ_t log π_θ(y_t | x, y_<t),  right = score(y_w) > score(y_l)

    w is 1 where only chosen completions are given, as in training. Where rejected ones stand beside them to
    be ranked, theirs is 0 and the others' is scaled so that the mean over all tokens is the mean over the
    chosen ones'. The score is a mean, so that length alone neither wins nor loses; ties count half.
    Reference: Askell et al. 2021, section 3.
    """

    @property
    def reads(self) -> frozenset[str]:
        """w, by completion."""
        return frozenset({"imitated"})

    @property
    def wants(self) -> Mapping[str, tuple[str, ...]]:
        """Log-probabilities of the policy."""
        return {"policy": ("logprobs",)}

    def __call__(self, outputs: Outputs, batch: Batch) -> Terms:
        """Entries [T]: one loss a token; the share of pairs ranked rightly, one entry a pair [P]."""
        assert outputs.logprobs is not None
        weight = batch.marks["imitated"][batch.completion]
        score = mean_logprobs(outputs.logprobs.detach(), batch)
        better, worse = batch.pairs.unbind(1)
        gap = (score[better] - score[worse]) * (2 * batch.labels - 1).sign()
        right = (gap > 0).to(gap.dtype) + 0.5 * (gap == 0).to(gap.dtype)
        return Terms(
            {"nll": (1.0, Entries(-weight * outputs.logprobs, "token"))},
            {"accuracy": Entries(right, "pair")} if len(right) else {},
        )


def mean_logprobs(logprobs: Float[Tensor, " T"], batch: Batch) -> Float[Tensor, " N"]:
    """The mean over each completion's supervised tokens; 0 for a completion that has none."""
    length = torch.bincount(batch.completion, minlength=batch.num_completions)
    return batch.per_completion(logprobs) / length.clamp(min=1)
