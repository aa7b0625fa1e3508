"""Tasks: every evaluation as one value; larger is better for every item, so that policies can be paired.

A task turns a policy and items into one number for each item. The mean over items is the metric; the
difference of two policies on the same items is the alignment tax (negative is loss). A task scores given text
(`Score`), or it samples and grades what was written (`Sampling`). Items are groups; see
`trueup.evals.likelihood` for what their `meta` says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trueup.engine.groups import Group
from trueup.engine.order import derive
from trueup.errors import TrueupError, counted
from trueup.evals.likelihood import (
    Evidence,
    Reads,
    accuracy,
    gather,
    per_byte,
    per_character,
    per_token,
    probabilities,
    true_mass,
)
from trueup.evals.view import PolicyView
from trueup.sources.sample import Decoding

Floats = NDArray[np.float64]
AT_ONCE = 32
"Items that are answered together, so that progress shows."
Grade = Callable[[Group, str], Mapping[str, Any]]
"What a completion is worth, by name; `reasons`, where there is one, maps names to words."
Advance = Callable[[int], None]
"Told how many more items are done."
Chance = Callable[[Sequence[Group]], float | None]
Values = Callable[[Evidence, Sequence[Group]], Floats]
ScoreName = Literal["sum", "character", "byte", "token", "mc2", "greedy", "ranking", "brier", "document"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Score:
    """How log-probabilities become one number for each item."""

    name: ScoreName
    metric: str
    "What the mean over items is called."
    reads: Reads
    values: Values
    chance: Chance
    ceiling: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Graded:
    """What a policy wrote for some items, and what that is worth."""

    values: Floats
    "One for each item; larger is better."
    groups: Sequence[Group]
    "The items with what was graded; what each completion got stands in its marks."
    beside: Mapping[str, float] = field(default_factory=dict)
    "Figures of the same completions that have no value for each item."


@dataclass(frozen=True, kw_only=True, eq=False)
class Sampling:
    """How completions are sampled and graded."""

    metric: str
    "What the mean over items is called."
    grade: Callable[[list[Group]], Graded]
    k: int
    "Completions of each item."
    decoding: Decoding
    ask: Callable[[list[Group]], list[Group]] = list
    "What the policy is shown for the items. It raises before anything is sampled where one lacks a part."
    at_once: int | None = None
    "Items sampled together; None for all. Fewer show progress earlier."

    def run(self, view: PolicyView, items: Sequence[Group], seed: int, advance: Advance) -> Graded:
        """The graded completions.

        A sample depends on the policy, the seed and its place in `items` alone, for one `at_once`.
        """
        asked = self.ask(list(items))
        size = self.at_once or len(asked)
        drawn = []
        for start in range(0, len(asked), size):
            part = asked[start : start + size]
            here = derive(seed, "block", start) if start else seed
            drawn += view.sample(part, k=self.k, decoding=self.decoding, seed=here)
            advance(len(part))
        return self.grade(drawn)

    def to_json(self) -> dict[str, Any]:
        """The settings that decide what is sampled; what is off is left out."""
        d = self.decoding
        found: dict[str, Any] = {"samples": self.k, "max_new_tokens": d.max_new_tokens}
        if d.greedy:
            return found | {"greedy": True}
        truncation = {"top_k": d.top_k, "top_p": d.top_p}
        return found | {"temperature": d.temperature} | {n: v for n, v in truncation.items() if v is not None}


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """One evaluation: its name and version, its range, and how it is run: `score` or `sampling`."""

    name: str
    version: int
    "Changes whenever the same policy would get another number."
    chance: Chance
    "What a policy that knows nothing gets on these items; None where that has no meaning."
    ceiling: float
    score: Score | None = None
    "How it scores given text."
    sampling: Sampling | None = None
    "How it samples from the policy."

    def __post_init__(self) -> None:
        if (self.score is None) == (self.sampling is None):
            raise ValueError(f"task {self.name} has either a score or a sampling")

    @property
    def samples(self) -> bool:
        """Whether it samples from the policy; the others score given text."""
        return self.sampling is not None

    @property
    def metric(self) -> str:
        """What the mean over items is called."""
        how = self.score or self.sampling
        assert how is not None
        return how.metric

    def of_length(self, longest: int) -> Task:
        """The task with completions of at most so many tokens; one that scores given text as it is."""
        how = self.sampling
        if how is None:
            return self
        decoding = replace(how.decoding, max_new_tokens=longest)
        return replace(self, sampling=replace(how, decoding=decoding))

    def run(self, view: PolicyView, items: Sequence[Group], seed: int = 0) -> Floats:
        """One value for each item, larger is better.

        Raises E827 without items, E790 where best-of-n would have to score text that it did not choose.
        """
        return self.examine(view, items, seed)[0]

    def examine(
        self,
        view: PolicyView,
        items: Sequence[Group],
        seed: int = 0,
        advance: Advance = lambda count: None,
    ) -> tuple[Floats, Evidence | Graded]:
        """The values of `run`, and what they were made of: log-probabilities, or completions."""
        self._check(view, items)
        if self.sampling is not None:
            graded = self.sampling.run(view, items, seed, advance)
            return graded.values, graded
        assert self.score is not None
        evidence = gather(view, list(items), self.score.reads)
        advance(len(items))
        return self.score.values(evidence, items), evidence

    def _check(self, view: PolicyView, items: Sequence[Group]) -> None:
        if not items:
            raise TrueupError(
                "E827", "no items to evaluate", where=f"task {self.name}", remedy="give a file with rows"
            )
        if view.best_of > 1 and not self.samples:
            raise TrueupError(
                "E790",
                "best-of-n has no likelihood of its own",
                where=f"task {self.name}, policy {view.name}",
                remedy="evaluate the policy that it samples from",
            )


def likelihood_task(name: str, version: int, score: Score) -> Task:
    """The task that scores given text in one way."""
    return Task(name=name, version=version, chance=score.chance, ceiling=score.ceiling, score=score)


def sampling_task(name: str, version: int, sampling: Sampling, *, chance: float | None = None) -> Task:
    """The task that samples in one way and whose values lie in 0 to 1."""
    return Task(name=name, version=version, chance=lambda items: chance, ceiling=1.0, sampling=sampling)


# --------------------------------------------------------------------------------- what items say


def answer_of(item: Group) -> int:
    """The index of the item's right choice."""
    answer = item.meta.get("answer")
    if not isinstance(answer, int) or not 0 <= answer < len(item.completions):
        raise TrueupError(
            "E206",
            f"`answer` is {answer!r}, with {counted(len(item.completions), 'choice')}",
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
            "E206",
            f"{counted(len(flags), 'flag')} in `true`, {counted(len(item.completions), 'choice')}",
            where=f"item {item.id}",
            remedy="write one true or false for each choice",
        )
    return [bool(flag) for flag in flags]


def _mean_of(value: Callable[[Group], float]) -> Chance:
    return lambda items: float(np.mean([value(item) for item in items]))


_one_in_k = _mean_of(lambda item: 1 / len(item.completions))


# ------------------------------------------------------------------------------- how they are scored


def _choosing(numbers: Callable[[Evidence, Sequence[Group]], list[Floats]]) -> Values:
    """1 for each item whose largest number is the answer's."""
    return lambda found, items: accuracy(numbers(found, items), [answer_of(item) for item in items])


def _document(found: Evidence, items: Sequence[Group]) -> Floats:
    pairs = zip(found.logprobs, found.num_tokens, strict=True)
    return np.array([float(sums.sum() / sizes.sum()) for sums, sizes in pairs])


def _brier(found: Evidence, items: Sequence[Group]) -> Floats:
    pairs = zip(probabilities(found.logprobs), map(answer_of, items), strict=True)
    return np.array([-float(((p - np.eye(len(p))[a]) ** 2).sum()) for p, a in pairs])


def confidence(found: Evidence, items: Sequence[Group]) -> tuple[Floats, Floats]:
    """The confidence in the most probable choice, and whether it is right: what `statistics.ece` takes.

    The confidence is e^{L_max} / Σ_k e^{L_k} over the item's choices.
    """
    chances = probabilities(found.logprobs)
    return np.array([float(p.max()) for p in chances]), accuracy(chances, [answer_of(i) for i in items])


def _score(
    name: ScoreName,
    metric: str,
    values: Values,
    *,
    reads: Reads = "choices",
    chance: Chance = _one_in_k,
    ceiling: float = 1.0,
) -> Score:
    return Score(name=name, metric=metric, reads=reads, values=values, chance=chance, ceiling=ceiling)


_sum = _choosing(lambda found, items: found.logprobs)
SCORES: Mapping[str, Score] = {
    score.name: score
    for score in (
        # argmax Σ_t log π(y_t), the largest sum, or the largest after division by a length.
        _score("sum", "accuracy", _sum),
        _score("character", "accuracy, per character", _choosing(lambda f, i: per_character(i, f.logprobs))),
        _score("byte", "accuracy, per byte", _choosing(lambda f, i: per_byte(i, f.logprobs))),
        _score("token", "accuracy, per token", _choosing(lambda f, i: per_token(f.logprobs, f.num_tokens))),
        # Σ_true e^L / Σ_all e^L (Lin et al. 2021).
        _score(
            "mc2",
            "mass on true choices",
            lambda found, items: true_mass(found.logprobs, [truths_of(item) for item in items]),
            chance=_mean_of(lambda item: float(np.mean(truths_of(item)))),
        ),
        # Every token of the one choice is the most probable one (Paperno et al. 2016).
        _score(
            "greedy",
            "greedy match",
            lambda found, items: np.array([float(row[0]) for row in found.greedy]),
            reads="greedy",
            chance=lambda items: 0.0,
        ),
        # argmax log π(true) − log π(false) of a question about each choice (Sun et al. 2023).
        _score("ranking", "accuracy, true against false", _sum, reads="verdicts"),
        # Minus the Brier score, a proper score whose mean over items pairs.
        _score(
            "brier",
            "minus the Brier score",
            _brier,
            chance=_mean_of(lambda item: 1 / len(item.completions) - 1),
            ceiling=0.0,
        ),
        # Mean log-probability of a document's tokens, in nats.
        _score(
            "document", "nats a token", _document, reads="documents", chance=lambda items: None, ceiling=0.0
        ),
    )
}
"Every way to score given text, by name."

LIKELIHOOD: Mapping[str, Task] = {
    name: likelihood_task(name, 2, SCORES[score])
    for name, score in (
        ("last_word", "greedy"),
        ("completion_choice", "character"),
        ("completion_choice_sum", "sum"),
        ("truth_mc1", "sum"),
        ("truth_mc2", "mc2"),
        ("ethics", "sum"),
        ("hhh", "token"),
        ("calibration", "brier"),
        ("perplexity", "document"),
    )
}
"Tasks that score given text, under the names that exams usually have."
