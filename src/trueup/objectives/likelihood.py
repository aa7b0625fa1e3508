"""Maximum likelihood."""

from __future__ import annotations

from dataclasses import dataclass

from trueup.engine.batch import Batch, Outputs
from trueup.engine.method import Entries, Terms


@dataclass(frozen=True, kw_only=True)
class NLL:
    """The negative log-likelihood of every supervised token.

    ℓ_t(θ) = −log π_θ(y_t | x, y_<t)

    The loop divides the sum by the number of supervised tokens of the whole minibatch, so a short completion
    weighs as its length. Reference: Ouyang et al. 2022, section 3.5 (supervised finetuning).
    """

    reads = frozenset[str]()
    wants = {"policy": ("logprobs",)}

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

    reads = frozenset[str]()
    wants = {"policy": ("logprobs",)}

    def __call__(self, outputs: Outputs, batch: Batch) -> Terms:
        """Entries [N]: one loss a sequence."""
        assert outputs.logprobs is not None
        return Terms({"lm": (1.0, Entries(-batch.mean_per_completion(outputs.logprobs), "completion"))})


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

    reads = frozenset({"imitated"})
    "w, by completion."
    wants = {"policy": ("logprobs",)}

    def __call__(self, outputs: Outputs, batch: Batch) -> Terms:
        """Entries [T]: one loss a token; the share of pairs ranked rightly, one entry a pair [P]."""
        assert outputs.logprobs is not None
        weight = batch.marks["imitated"][batch.completion]
        score = batch.mean_per_completion(outputs.logprobs.detach())
        better, worse = batch.pairs.unbind(1)
        gap = (score[better] - score[worse]) * (2 * batch.labels - 1).sign()
        right = (gap > 0).to(gap.dtype) + 0.5 * (gap == 0).to(gap.dtype)
        return Terms(
            {"nll": (1.0, Entries(-weight * outputs.logprobs, "token"))},
            {"accuracy": Entries(right, "pair")} if len(right) else {},
        )
