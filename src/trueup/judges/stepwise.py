"""A process reward model as a judge: the probabilities that a completion's steps are right, as one number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args
from urllib.parse import unquote

import numpy as np

from trueup.annotate.logprobs import by_completion, measure
from trueup.engine.groups import Completion, Group
from trueup.engine.method import Handles
from trueup.errors import TrueupError
from trueup.judges.reward_model import RewardModelJudge
from trueup.sources.steps import read_at, step_ends

Reduction = Literal["product", "min", "last"]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a completion is cut into steps, and their probabilities made one score."""

    score: Reduction = "product"
    "Π_i p_i, min_i p_i, or p of the last step."
    separator: str = "\n"
    "What stands between two steps; steps of white space alone are none."


def reading(query: str, where: str) -> Reading:
    """What stands behind `?` in a reference: `score=min&separator=%0A%0A`, where `\\n` is a line break too.

    Raises E442 for another option or value.
    """
    given = [part.partition("=") for part in query.split("&") if part]
    text = {option: unquote(value).replace("\\n", "\n") for option, _, value in given}
    found = [how for how in get_args(Reduction) if how == text.get("score", Reading.score)]
    separator = text.get("separator", Reading.separator)
    unknown = [option for option in text if option not in ("score", "separator")]
    if unknown or not found or not separator:
        raise TrueupError(
            "E442",
            f"a process reward model has no option {unknown[0]!r}"
            if unknown
            else "an option says nothing here",
            where=where,
            remedy=f"write score={', score='.join(get_args(Reduction))}, or separator=TEXT",
        )
    return Reading(score=found[0], separator=separator)


@dataclass(frozen=True, kw_only=True, eq=False)
class StepwiseJudge:
    """Scores the text that a person would see by the steps in it.

    p_i = σ(V(state after step i)),  score = Π_i p_i, min_i p_i, or p of the last step

    A completion without any text has one step, the empty one. Texts are encoded anew as `RewardModelJudge`
    does. What follows a step changes nothing about it. Reference: Lightman et al. 2023, section 2.6.
    """

    reader: RewardModelJudge
    "Its network has a `values` head; it says how texts are encoded."
    reading: Reading = Reading()

    def __call__(self, groups: Sequence[Group]) -> list[list[float]]:
        """The score of every completion of every group, in [0, 1]."""
        return [[self._total(steps) for steps in row] for row in self.steps(groups)]

    def steps(self, groups: Sequence[Group]) -> list[list[list[float]]]:
        """P(right) of every step, by group and completion."""
        if not any(g.completions for g in groups):
            return [[] for _ in groups]
        handles = Handles(
            networks={"judge": self.reader.network},
            device=self.reader.device,
            microbatch_tokens=self.reader.microbatch_tokens,
        )
        read = [self._encode(group) for group in groups]
        values = measure(read, "judge", "values", handles).double().cpu().numpy()
        return [
            [np.exp(-np.logaddexp(0, -own)).tolist() for own in row] for row in by_completion(read, values)
        ]

    def _encode(self, group: Group) -> Group:
        """The group in the reward model's own tokens, supervised after every step."""
        whole = replace(group, completions=tuple(replace(c, finished=True) for c in group.completions))
        encoded = self.reader.encode(whole)
        return encoded.with_completions([self._cut(c, group.id) for c in encoded.completions])

    def _cut(self, completion: Completion, name: str) -> Completion:
        assert completion.tokens is not None
        steps = [part for part in completion.text.split(self.reading.separator) if part.strip()]
        places = step_ends(completion.tokens, steps, self.reader.chat.decode)
        if places is None:
            raise TrueupError(
                "E441",
                "the reward model's tokens do not spell the completion's steps",
                where=f"group {name}",
                remedy="take a process reward model whose tokenizer keeps the text as it is",
            )
        return read_at(completion, places or [completion.num_tokens - 1])

    def _total(self, steps: Sequence[float]) -> float:
        if self.reading.score == "last":
            return steps[-1]
        return min(steps) if self.reading.score == "min" else float(np.prod(steps))
