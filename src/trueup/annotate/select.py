"""Which sampled completions are worth learning from; an annotator may return less than it was given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from trueup.annotate.rewards import sequence_kl
from trueup.engine.groups import Group, marked
from trueup.engine.method import Handles
from trueup.engine.order import permutation


@dataclass(frozen=True, kw_only=True)
class ShapedScore:
    """Writes the mark `shaped_score`: the score minus what the completion costs in KL.

    s(y) = r(y) − β Σ_t [log π_old(y_t) − log ρ(y_t)]

    Whatever is chosen by it prefers, of two completions with one score, the one that the reference finds
    likelier. Reference: Dong et al. 2023 (the reward with a KL penalty).
    """

    beta: float

    reads = frozenset({"old_logprobs", "ref_logprobs", "score"})
    writes = frozenset({"shaped_score"})

    def __call__(self, groups: list[Group], handles: Handles) -> list[Group]:
        """The groups with `shaped_score`; logs its mean as `reward`, the KL and β."""
        kl = [sequence_kl(group) for group in groups]
        shaped = [
            [c.marks["score"] - self.beta * cost for c, cost in zip(group.completions, costs, strict=True)]
            for group, costs in zip(groups, kl, strict=True)
        ]
        kl_mean, reward = float(np.concatenate(kl).mean()), float(np.concatenate(shaped).mean())
        handles.record({"kl": kl_mean, "beta": self.beta, "reward": reward})
        return marked(groups, "shaped_score", shaped)


@dataclass(frozen=True, kw_only=True)
class BestOfGroup:
    """Keeps of each group the one completion with the highest mark.

    y* = argmax_k s(y_k),  KL(law of y* ‖ π) ≤ log K − (K − 1) / K

    Ties fall to a random one, by the run's seed. For distinct scores y* has the law F(y)^K − F⁻(y)^K, where F
    is the mass of π up to and with y in the order of scores, F⁻ without. References: Stiennon et al. 2020;
    Beirami et al. 2024.
    """

    by: str = "score"
    "The mark that decides."

    @property
    def reads(self) -> frozenset[str]:
        """The mark that decides, and the score."""
        return frozenset({self.by, "score"})

    writes = frozenset[str]()

    def __call__(self, groups: list[Group], handles: Handles) -> list[Group]:
        """Groups of one completion each; logs the mean score of what was kept as `best_score`."""
        order = _tie_order(sum(len(g.completions) for g in groups), handles)
        kept, start = [], 0
        for group in groups:
            places = range(start, start + len(group.completions))
            marks = [c.marks[self.by] for c in group.completions]
            kept.append(_only(group, max(range(len(marks)), key=lambda k: (marks[k], order[places[k]]))))
            start = places.stop
        return _noted(kept, handles)


@dataclass(frozen=True, kw_only=True)
class TopAcrossGroups:
    """Keeps the ⌊n / k⌋ completions with the highest marks of all n in the step, whatever their prompts.

    kept = the top 1/k of { s(x_i, y_i) : i = 1 .. n }

    For one prompt and n → ∞ what is kept has the law of π cut to the top 1/k of its mass in the order of
    scores, at KL log k from it. Over several prompts those with easily won scores are kept more often. Ties
    fall to random ones, by the run's seed. Reference: Dong et al. 2023, algorithm 1 (first version).
    """

    k: int
    "One in k is kept."
    by: str = "score"
    "The mark that decides."

    @property
    def reads(self) -> frozenset[str]:
        """The mark that decides, and the score."""
        return frozenset({self.by, "score"})

    writes = frozenset[str]()

    def __call__(self, groups: list[Group], handles: Handles) -> list[Group]:
        """One group for every completion kept, in the order given; logs their mean score as `best_score`."""
        flat = [(group, k) for group in groups for k in range(len(group.completions))]
        order = _tie_order(len(flat), handles)
        marks = [group.completions[k].marks[self.by] for group, k in flat]
        ranked = sorted(range(len(flat)), key=lambda i: (marks[i], order[i]), reverse=True)
        kept = sorted(ranked[: len(flat) // self.k])
        return _noted([_only(*flat[i]) for i in kept], handles)


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Drops the groups whose completions are marked `kept` = 0; a group without that mark stays."""

    reads = frozenset({"sampled_logprobs"})
    writes = frozenset[str]()

    def __call__(self, groups: list[Group], handles: Handles) -> list[Group]:
        """The groups to learn from."""
        return [group for group in groups if all(c.marks.get("kept", 1.0) for c in group.completions)]


def _tie_order(size: int, handles: Handles) -> Sequence[int]:
    """A random rank for each of a step's completions: a function of the seed and of how often it was asked.

    The count is part of the run's state, so a resumed run breaks ties as the whole one does, and no
    completion wins the same tie in every step.
    """
    asked = handles.state.get("selections", 0.0)
    handles.state["selections"] = asked + 1
    return permutation(size, handles.seed, "ties", int(asked)).tolist()


def _only(group: Group, k: int) -> Group:
    """The group with its k-th completion alone; judgements on the others have nothing left to point at."""
    return replace(group, completions=(group.completions[k],), comparisons=(), rankings=(), scores=())


def _noted(kept: list[Group], handles: Handles) -> list[Group]:
    if kept:
        handles.record({"best_score": float(np.mean([g.completions[0].marks["score"] for g in kept]))})
    return kept
