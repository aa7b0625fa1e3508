"""Tasks: every evaluation as one value; larger is better for every item, so that policies can be paired.

A task turns a policy and items into one number for each item. The mean over items is the metric; the
difference of two policies on the same items is the alignment tax (negative is loss). Items are groups; see
`trueup.evals.likelihood` for what their `meta` says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trueup.errors import TrueupError
from trueup.evals.likelihood import (
    accuracy,
    choice_logprobs,
    greedy_match,
    per_character,
    per_token,
    probabilities,
    token_logprobs,
    true_mass,
)
from trueup.evals.view import PolicyView
from trueup.groups import Group

Floats = NDArray[np.float64]
Measure = Callable[[PolicyView, list[Group], int], Floats]
"(policy, items, seed) to one number for each item."


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """One evaluation: its name and version, its range, and how it is run."""

    name: str
    version: int
    "Changes whenever the same policy would get another number."
    measure: Measure
    chance: Callable[[Sequence[Group]], float | None]
    "What a policy that knows nothing gets on these items; None where that has no meaning."
    ceiling: float
    samples: bool = False
    "Whether it samples from the policy; the others score given text."

    def run(self, view: PolicyView, items: Sequence[Group], seed: int = 0) -> Floats:
        """One value for each item, larger is better.

        Raises E601 without items, E790 where best-of-n would have to score text that it did not choose.
        """
        if not items:
            raise TrueupError("E601", "no items to evaluate", where=f"task {self.name}")
        if view.best_of > 1 and not self.samples:
            raise TrueupError(
                "E790",
                "best-of-n has no likelihood of its own",
                where=f"task {self.name}, policy {view.name}",
                remedy="evaluate the policy that it samples from",
            )
        return self.measure(view, list(items), seed)


# --------------------------------------------------------------------------------- what items say


def answer_of(item: Group) -> int:
    """The index of the item's right choice."""
    answer = item.meta.get("answer")
    if not isinstance(answer, int) or not 0 <= answer < len(item.completions):
        raise TrueupError(
            "E206",
            f"`answer` is {answer!r}, with {len(item.completions)} choices",
            where=f"item {item.id}",
            remedy="put the index of the right choice in meta",
        )
    return answer


def truths_of(item: Group) -> Sequence[bool]:
    """Which of the item's choices are true: `true` in meta, or the answer alone."""
    flags = item.meta.get("true")
    if flags is None:
        answer = answer_of(item)
        return [k == answer for k in range(len(item.completions))]
    if len(flags) != len(item.completions):
        raise TrueupError(
            "E206", f"{len(flags)} flags in `true`, {len(item.completions)} choices", where=f"item {item.id}"
        )
    return [bool(flag) for flag in flags]


def _one_in_k(items: Sequence[Group]) -> float:
    return float(np.mean([1 / len(item.completions) for item in items]))


def _true_share(items: Sequence[Group]) -> float:
    return float(np.mean([np.mean(truths_of(item)) for item in items]))


def _zero(items: Sequence[Group]) -> float:
    return 0.0


def _unknown(items: Sequence[Group]) -> None:
    return None


# ------------------------------------------------------------------------------- how they are run


def _answers(items: Sequence[Group]) -> list[int]:
    return [answer_of(item) for item in items]


def _last_word(view: PolicyView, items: list[Group], seed: int) -> Floats:
    matches = greedy_match(view.encode(items), "policy", view.handles)
    return np.array([float(row[0]) for row in matches])


def _sum_accuracy(view: PolicyView, items: list[Group], seed: int) -> Floats:
    return accuracy(choice_logprobs(view.encode(items), "policy", view.handles), _answers(items))


def _character_accuracy(view: PolicyView, items: list[Group], seed: int) -> Floats:
    logprobs = choice_logprobs(view.encode(items), "policy", view.handles)
    return accuracy(per_character(items, logprobs), _answers(items))


def _token_accuracy(view: PolicyView, items: list[Group], seed: int) -> Floats:
    tokens = token_logprobs(view.encode(items), "policy", view.handles)
    return accuracy(per_token(tokens), _answers(items))


def _true_mass(view: PolicyView, items: list[Group], seed: int) -> Floats:
    logprobs = choice_logprobs(view.encode(items), "policy", view.handles)
    return true_mass(logprobs, [truths_of(item) for item in items])


def _document_logprob(view: PolicyView, items: list[Group], seed: int) -> Floats:
    tokens = token_logprobs(view.encode(items, score="all"), "policy", view.handles)
    return np.array([float(np.concatenate(choices).mean()) for choices in tokens])


def _brier(view: PolicyView, items: list[Group], seed: int) -> Floats:
    chances = probabilities(choice_logprobs(view.encode(items), "policy", view.handles))
    return np.array(
        [-float(((p - np.eye(len(p))[a]) ** 2).sum()) for p, a in zip(chances, _answers(items), strict=True)]
    )


def _uniform_brier(items: Sequence[Group]) -> float:
    return float(np.mean([1 / len(item.completions) - 1 for item in items]))


def calibration(view: PolicyView, items: Sequence[Group]) -> tuple[Floats, Floats]:
    """The confidence in the most probable choice, and whether it is right: what `statistics.ece` takes.

    The confidence is e^{L_max} / Σ_k e^{L_k} over the item's choices.
    """
    chances = probabilities(choice_logprobs(view.encode(items), "policy", view.handles))
    return np.array([float(p.max()) for p in chances]), accuracy(chances, _answers(items))


LIKELIHOOD: Mapping[str, Task] = {
    task.name: task
    for task in (
        # LAMBADA (Paperno et al. 2016): greedy decoding must give every token of the last word.
        Task(name="last_word", version=1, measure=_last_word, chance=_zero, ceiling=1.0),
        # HellaSwag (Zellers et al. 2019): log-probability per character.
        Task(name="completion_choice", version=1, measure=_character_accuracy, chance=_one_in_k, ceiling=1.0),
        Task(name="completion_choice_sum", version=1, measure=_sum_accuracy, chance=_one_in_k, ceiling=1.0),
        # TruthfulQA (Lin et al. 2021).
        Task(name="truth_mc1", version=1, measure=_sum_accuracy, chance=_one_in_k, ceiling=1.0),
        Task(name="truth_mc2", version=1, measure=_true_mass, chance=_true_share, ceiling=1.0),
        # ETHICS (Hendrycks et al. 2020): which of the two judgements is likelier.
        Task(name="ethics", version=1, measure=_sum_accuracy, chance=_one_in_k, ceiling=1.0),
        # HHH comparisons (Askell et al. 2021): the better answer by mean log-probability.
        Task(name="hhh", version=1, measure=_token_accuracy, chance=_one_in_k, ceiling=1.0),
        # Minus the Brier score, a proper score whose mean over items pairs; `calibration` gives the ECE.
        Task(name="calibration", version=1, measure=_brier, chance=_uniform_brier, ceiling=0.0),
        # Mean log-probability of a document's tokens, in nats; `likelihood.perplexity` pools documents.
        Task(name="perplexity", version=1, measure=_document_logprob, chance=_unknown, ceiling=0.0),
    )
}
"Tasks that score given text, by name."
