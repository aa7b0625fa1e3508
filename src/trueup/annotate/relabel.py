"""Hindsight: what was sampled is told as the answer to the instruction that it did satisfy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from trueup.engine.groups import Comparison, Completion, Group, Message, Role
from trueup.engine.method import Handles, Parts
from trueup.engine.prefixes import after, common_length
from trueup.engine.views import mapped
from trueup.errors import TrueupError


@dataclass(frozen=True, kw_only=True, eq=False)
class Relabel:
    """Rewrites each group: every completion after the instruction that it satisfied, and after the opposite.

    p⁺(y) = good if score(y) ≥ threshold else bad,  p⁻(y) = the other one

    A completion satisfies "good" where the judge's score reaches the threshold, without one the mean of those
    of the step that ended by themselves; else it satisfies "bad". Of K completions come K pairs: 2k is
    completion k after p⁺, 2k + 1 after p⁻, and a comparison says so. What both prompts begin with is the
    group's prompt; the rest of each stands before its completions, unsupervised. Reference: Zhang et al.
    2023, algorithm 1.
    """

    good: Callable[[Group], np.ndarray]
    "A group's prompt with the instruction that good completions satisfy, as token ids."
    bad: Callable[[Group], np.ndarray]
    threshold: float | None = None

    reads = frozenset({"score"})
    writes = frozenset[str]()

    def __call__(self, groups: list[Group], handles: Handles) -> list[Group]:
        """The groups of pairs; logs the share of completions that are told as good."""
        scores = [c.marks["score"] for g in groups for c in g.completions]
        # What was cut off has its score lowered, and would lower the threshold until all that ended is good.
        ended = [c.marks["score"] for g in groups for c in g.completions if c.finished] or scores
        # The mean of equal numbers may round to above them all, which would make every one of them bad.
        threshold = min(float(np.mean(ended)), max(ended)) if self.threshold is None else self.threshold
        handles.record({"good_rate": float(np.mean([score >= threshold for score in scores]))})
        return [self._told(group, threshold) for group in groups]

    def _told(self, group: Group, threshold: float) -> Group:
        good, bad = self.good(group), self.bad(group)
        shared = common_length([good, bad])
        if shared == 0:
            raise TrueupError(
                "E735",
                "the prompts with the two instructions have no first token in common",
                where=f"group {group.id}",
                remedy="begin both with the same word, or remove the row if its prompt is empty",
            )
        completions: list[Completion] = []
        for completion in group.completions:
            satisfied = completion.marks["score"] >= threshold
            for prompt in (good, bad) if satisfied else (bad, good):
                completions.append(after(prompt[shared:], completion))
        pairs = [Comparison(a=a, b=a + 1, choice="a") for a in range(0, len(completions), 2)]
        return replace(
            group,
            prompt_tokens=good[:shared],
            completions=tuple(completions),
            comparisons=tuple(pairs),
            rankings=(),
            scores=(),
        )


def instructed(parts: Parts, instruction: str, group: Group) -> np.ndarray:
    """The prompt's token ids with an instruction on a line of its own after what the user said last.

    The judge goes on seeing the prompt without it.
    """
    asked = [i for i, m in enumerate(group.prompt) if m.role in (Role.USER, Role.TEXT)]
    messages = list(group.prompt)
    if asked:
        last = messages[asked[-1]]
        messages[asked[-1]] = replace(last, content=f"{last.content}\n{instruction}")
    else:
        messages.append(Message(Role.USER, instruction))
    return parts.prompt_ids(messages)


def steered(groups: Sequence[Group], ids: Callable[[Group], np.ndarray]) -> Sequence[Group]:
    """The groups with other prompt ids; their messages stay."""
    return mapped(groups, lambda group: replace(group, prompt_tokens=ids(group)))
