"""What a completion's reward is compared with: one advantage for each completion, without gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from trueup.engine.groups import Completion, Group, marked
from trueup.engine.method import Annotator, Handles
from trueup.errors import TrueupError


def summed_rewards(group: Group) -> np.ndarray:
    """R of each of a group's completions [N]: the score minus β times the log-ratio, when penalised."""
    return np.array([float(c.columns["rewards"].sum()) for c in group.completions])


def with_advantages(
    groups: Sequence[Group], advantages: Sequence[np.ndarray], handles: Handles
) -> list[Group]:
    """The groups with the mark `advantage`; logs its spread and how many completions have none."""
    every = np.concatenate(list(advantages))
    handles.record({"advantage/std": float(every.std()), "advantage/zero": float(np.mean(every == 0))})
    return marked(groups, "advantage", advantages)


def several(groups: Sequence[Group]) -> None:
    """Nothing; raises E741 where a group has one completion, which has no others to be compared with."""
    if any(len(group.completions) < 2 for group in groups):
        raise TrueupError(
            "E741",
            "a completion is compared with the others of its prompt, and there is only one",
            where="num_completions",
            remedy="sample at least 2 completions per prompt",
        )


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """Writes `advantage` = R − b with one b for the whole step.

    none    b = 0
    step    b = mean of R over the step
    moving  b ← decay · b + (1 − decay) · mean of R; a step uses the b that earlier steps left, 0 at the first

    none and moving leave the expected gradient as it is; step, which contains the completion's own R, shrinks
    it by exactly (N − 1) / N for N independent completions. The moving b is `handles.state["baseline"]`.
    Reference: Williams 1992.
    """

    kind: Literal["none", "step", "moving"] = "step"
    decay: float = 0.9

    reads = frozenset({"rewards"})
    writes = frozenset({"advantage"})

    def __call__(self, groups: list[Group], handles: Handles) -> list[Group]:
        """The groups with `advantage`."""
        rewards = [summed_rewards(group) for group in groups]
        mean, state = float(np.concatenate(rewards).mean()), handles.state
        baseline = {"none": 0.0, "step": mean, "moving": state.get("baseline", 0.0)}[self.kind]
        if self.kind == "moving":
            before = state.get("baseline", mean)
            state["baseline"] = self.decay * before + (1 - self.decay) * mean
        handles.record({"baseline": baseline})
        return with_advantages(groups, [r - baseline for r in rewards], handles)


@dataclass(frozen=True, kw_only=True)
class LeaveOneOut:
    """Writes `advantage` = R_i − mean of the other K − 1 completions of the same prompt.

    R_i − b_i = K / (K − 1) · (R_i − R̄). The baseline does not contain the completion's own R, so the expected
    gradient is exact. Reference: Ahmadian et al. 2024 (RLOO); Kool et al. 2019.
    """

    reads = frozenset({"rewards"})
    writes = frozenset({"advantage"})

    def __call__(self, groups: list[Group], handles: Handles) -> list[Group]:
        """The groups with `advantage`. Raises E741 where a prompt has one completion."""
        several(groups)
        rewards = [summed_rewards(group) for group in groups]
        others = [(r.sum() - r) / (len(r) - 1) for r in rewards]
        handles.record({"baseline": float(np.concatenate(others).mean())})
        return with_advantages(groups, [r - b for r, b in zip(rewards, others, strict=True)], handles)


@dataclass(frozen=True, kw_only=True)
class GroupCentred:
    """Rewrites `rewards`: from the last token's, where the score is, the group's mean score is taken.

    r_T ← r_T − mean of the scores of the prompt's K completions

    The mean holds the completion's own score, which shrinks the score's gradient by (K − 1) / K.
    Reference: Hu 2025 (REINFORCE++ with a baseline).
    """

    reads = frozenset({"rewards", "score"})
    writes = frozenset({"rewards"})

    def __call__(self, groups: list[Group], handles: Handles) -> list[Group]:
        """The groups with `rewards`. Raises E741 where a prompt has one completion."""
        several(groups)
        means = [float(np.mean([c.marks["score"] for c in group.completions])) for group in groups]
        handles.record({"baseline": float(np.mean(means))})
        return [
            group.with_completions([_less(c, mean) for c in group.completions])
            for group, mean in zip(groups, means, strict=True)
        ]


def _less(completion: Completion, mean: float) -> Completion:
    rewards = completion.columns["rewards"].copy()
    rewards[-1] -= mean
    return completion.with_columns(rewards=rewards)


@dataclass(frozen=True, kw_only=True)
class GroupNormalised:
    """Writes `advantage` = (score − mean) / (std + ε) within the completions of each prompt.

    sample: the Bessel-corrected std (K = 2, scores 1 and 0: ±.7071); population: ±1; none: no division. A
    group whose scores are all equal gets 0.
    References: Shao et al. 2024 (GRPO); Liu et al. 2025 (no division).
    """

    std: Literal["sample", "population", "none"] = "sample"
    epsilon: float = 1e-4

    reads = frozenset({"score"})
    writes = frozenset({"advantage"})

    def __call__(self, groups: list[Group], handles: Handles) -> list[Group]:
        """The groups with `advantage`. Raises E741 where a prompt has one completion."""
        several(groups)
        scores = [np.array([c.marks["score"] for c in group.completions]) for group in groups]
        handles.record({"baseline": float(np.concatenate(scores).mean())})
        return with_advantages(groups, [self.normalised(s) for s in scores], handles)

    def normalised(self, scores: np.ndarray) -> np.ndarray:
        """The advantages [K] of one prompt's scores."""
        if np.ptp(scores) == 0:
            return np.zeros_like(scores)
        centred = scores - scores.mean()
        if self.std == "none":
            return centred
        return centred / (scores.std(ddof=1 if self.std == "sample" else 0) + self.epsilon)


@dataclass(frozen=True, kw_only=True, eq=False)
class AgainstGreedy:
    """Writes `advantage` = R(y) − R(ŷ), ŷ the policy's own greedy completion of the prompt.

    The greedy completion passes the same `stages` as the samples, so a sample that equals it gets 0. Its
    reward depends on the prompt alone: the expected gradient is exact. Reference: Rennie et al. 2017.
    """

    greedy: Callable[[Sequence[Group], Handles], list[Group]]
    "The prompts, each with its greedy completion."
    stages: tuple[Annotator, ...]
    "What turns a completion into `rewards`."

    reads = frozenset({"rewards"})
    writes = frozenset({"advantage"})

    def __call__(self, groups: list[Group], handles: Handles) -> list[Group]:
        """The groups with `advantage`; what the stages log of greedy completions is not logged."""
        aside = replace(handles, record=lambda metrics: None)
        greedy = self.greedy(groups, handles)
        for stage in self.stages:
            greedy = stage(greedy, aside)
        baselines = [float(summed_rewards(group)[0]) for group in greedy]
        handles.record({"baseline": float(np.mean(baselines))})
        rewards = [summed_rewards(group) for group in groups]
        return with_advantages(groups, [r - b for r, b in zip(rewards, baselines, strict=True)], handles)
