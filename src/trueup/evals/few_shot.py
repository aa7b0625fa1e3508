"""Classification by a language model's own words: labels are scored after demonstrations, none is sampled.

    label(x) = argmax_c log p(c | demonstrations, x)                          as they are
             = argmax_c log p(c | demonstrations, x) − log p(c | "Answer:")   `calibrate`

Brown et al. (2020, section 2.4) for both. A label's leading space belongs to the label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trueup.annotate.logprobs import choice_logprobs
from trueup.engine.groups import Group
from trueup.engine.order import permutation
from trueup.errors import TrueupError
from trueup.evals.benchmarks import choice
from trueup.evals.likelihood import accuracy, probabilities
from trueup.evals.view import PolicyView
from trueup.statistics.estimates import Estimate, ece, mean_ci

Floats = NDArray[np.float64]
CONTENT_FREE = "Answer:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A text and the index of its label."""

    text: str
    label: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """How texts and labels are put into words."""

    labels: tuple[str, ...]
    "Each with its leading space."
    instruction: str = ""
    "Said once, before everything, with a blank line after it."
    before: str = "Text: "
    after: str = "\nLabel:"

    def prompt(self, text: str, shown: Sequence[Example] = ()) -> str:
        """The text to be labelled, after the examples; with none of them the zero-shot prompt."""
        head = f"{self.instruction}\n\n" if self.instruction else ""
        told = "".join(f"{self.before}{e.text}{self.after}{self.labels[e.label]}\n\n" for e in shown)
        return f"{head}{told}{self.before}{text}{self.after}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Labelled:
    """What a policy says of some texts, for each draw of the examples shown."""

    probabilities: Floats
    "[num_draws, num_texts, num_labels], among the labels"
    answers: NDArray[np.int64]
    "[num_texts]"
    shown: Sequence[Sequence[Example]]
    "The examples of each draw, in their order."

    @property
    def accuracies(self) -> Floats:
        """The accuracy of each draw, ties shared. [num_draws]"""
        answers = self.answers.tolist()
        return np.array([float(accuracy(list(p), answers).mean()) for p in self.probabilities])

    @property
    def accuracy(self) -> Estimate:
        """The mean over texts of their accuracy over draws, with its interval over texts."""
        answers = self.answers.tolist()
        return mean_ci(np.stack([accuracy(list(p), answers) for p in self.probabilities], axis=1))

    @property
    def calibration_error(self) -> float:
        """The expected calibration error of the most probable label, over all draws (Guo 2017)."""
        p = self.probabilities.reshape(-1, self.probabilities.shape[-1])
        right = p.argmax(1) == np.tile(self.answers, len(self.probabilities))
        return ece(p.max(1), right.astype(np.float64))

    def to_json(self) -> dict[str, Any]:
        """Accuracy, its deviation between draws, the calibration error, and the examples that were shown."""
        draws = self.accuracies
        return {
            "accuracy": self.accuracy.to_json(),
            "draws": draws.tolist(),
            "std_between_draws": float(draws.std(ddof=1)) if len(draws) > 1 else None,
            "ece": self.calibration_error,
            "shown": [[[e.text, e.label] for e in one] for one in self.shown],
        }


def label_texts(
    view: PolicyView,
    texts: Sequence[Example],
    wording: Wording,
    *,
    train: Sequence[Example] = (),
    k: int = 0,
    draws: int = 5,
    calibrate: bool = False,
    seed: int = 0,
) -> Labelled:
    """The labels of `texts` after `k` examples of `train`, for several draws of the examples.

    Each draw takes the next `k` of one permutation of `train`, so draws share no example. With k = 0 there is
    one draw. Raises E828 without texts, or where `train` has fewer than k · draws examples.
    """
    draws = draws if k else 1
    if not texts or len(train) < k * draws:
        raise TrueupError(
            "E828",
            f"{len(texts)} texts to label, {len(train)} examples for {draws} draws of {k}",
            where="few-shot",
            remedy="give more examples, or ask for fewer draws",
        )
    order = permutation(len(train), seed, "few_shot") if k else np.zeros(0, np.int64)
    shown = [[train[int(i)] for i in order[d * k : (d + 1) * k]] for d in range(draws)]
    items = [
        choice(wording.prompt(t.text, examples), wording.labels, t.label, id=f"draw {d} text {i}")
        for d, examples in enumerate(shown)
        for i, t in enumerate(texts)
    ]
    logprobs = np.array(_scored(view, items))
    if calibrate:
        logprobs -= np.array(_scored(view, [choice(CONTENT_FREE, wording.labels, 0, id="content-free")]))
    found = np.array(probabilities(list(logprobs)))
    return Labelled(
        probabilities=found.reshape(draws, len(texts), len(wording.labels)),
        answers=np.array([t.label for t in texts]),
        shown=shown,
    )


def _scored(view: PolicyView, items: Sequence[Group]) -> list[Floats]:
    return choice_logprobs(view.encode(items), "policy", view.handles)
