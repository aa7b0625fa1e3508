"""From judgements to single labels, and the point that KTO measures gains and losses from."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

from trueup.annotate.logprobs import measure
from trueup.engine.groups import Group, each
from trueup.engine.method import Handles
from trueup.engine.views import View, flat, mapped

logger = logging.getLogger("trueup")
_SAID = "kto/one_prompt"
"In a run's state, so that a resumed run does not say it again."


def desirable(group: Group) -> Group:
    """The group with only the completions that are plainly good or bad, marked `desirable` = 1 or −1.

    Good: preferred at least once and never rejected (the top tier of a ranking). Bad: rejected at least once
    and never preferred (the bottom tier). Where nobody compared, a mean score above 0 is good and any other
    bad; a file's yes and no are the scores 1 and 0.
    """
    pairs = [pair for pair in group.pairs() if pair.label != 0.5]
    label: dict[int, float] = {}
    if pairs:
        won = {p.chosen if p.label > 0.5 else p.rejected for p in pairs}
        lost = {p.rejected if p.label > 0.5 else p.chosen for p in pairs}
        label = {**dict.fromkeys(won - lost, 1.0), **dict.fromkeys(lost - won, -1.0)}
    else:
        for index in {score.completion for score in group.scores}:
            given = [score.value for score in group.scores if score.completion == index]
            label[index] = 1.0 if sum(given) / len(given) > 0 else -1.0
    kept = [c.with_marks(desirable=label[i]) for i, c in enumerate(group.completions) if i in label]
    return replace(group, completions=tuple(kept), comparisons=(), rankings=(), scores=())


def labelled(groups: Sequence[Group]) -> Sequence[Group]:
    """Each group's plainly good and bad completions; groups without any are left out."""
    return flat(groups, lambda group: (kept,) if (kept := desirable(group)).completions else ())


def mismatched(groups: Sequence[Group]) -> Sequence[Group]:
    """Every prompt with the completions of the nearest group before it that has another prompt.

    Before the first stands the last. None where all prompts are the same.
    """
    prompts = [_prompt(group) for group in groups]
    other: dict[int, int] = {}
    for i in [*range(len(groups))] * 2:  # twice round: the first ones find theirs at the end
        before = (i - 1) % len(groups)
        if prompts[before] != prompts[i]:
            other[i] = before
        elif before in other:
            other[i] = other[before]
    places = sorted(other)

    def crossed(k: int) -> Group:
        own, theirs = groups[places[k]], groups[other[places[k]]]
        return replace(own, completions=tuple(replace(c, columns={}, marks={}) for c in theirs.completions))

    view = View(len(places), crossed)
    return view if isinstance(groups, View) else list(view)


def _prompt(group: Group) -> object:
    """What tells prompts apart: a digest, since those of a large file are many."""
    return group.prompt if group.prompt_tokens is None else sha256(group.prompt_tokens.tobytes()).digest()


@dataclass(frozen=True, kw_only=True)
class MismatchedKL:
    """Writes the mark `kl_baseline`: z0, one number for the whole step.

    z0 = max(0, (1 / N) Σ_n [log π(y'_n | x_n) − log ρ(y'_n | x_n)])

    (x_n, y'_n) are the step's prompts with the completions of a group before: y' answers another prompt. A
    step of one prompt has no such pair, z0 = 0, and a warning says so. π is the policy as the step starts,
    and nothing carries a gradient. Reference: Ethayarajh et al. 2024, section 4.1.
    """

    reads = frozenset[str]()
    writes = frozenset({"kl_baseline"})

    def __call__(self, groups: list[Group], handles: Handles) -> list[Group]:
        """The groups with `kl_baseline`."""
        baseline = self._baseline(groups, handles)
        return each(groups, lambda c: c.with_marks(kl_baseline=baseline))

    def over(self, groups: View, handles: Handles) -> Sequence[Group]:
        """The same of groups that are not in memory."""
        baseline = self._baseline(groups, handles)
        return mapped(groups, lambda group: each([group], lambda c: c.with_marks(kl_baseline=baseline))[0])

    def _baseline(self, groups: Sequence[Group], handles: Handles) -> float:
        """z0, which is recorded."""
        crossed = mismatched(groups)
        mean = 0.0
        if not crossed and not handles.state.get(_SAID):
            handles.state[_SAID] = 1.0
            logger.warning(
                "KTO: all %d groups of a step have the same prompt, so no completion answers another one "
                "and the baseline z0 is 0; a larger loop.batch, or data with more prompts, gives it a value",
                len(groups),
            )
        if crossed:
            policy, reference = (measure(crossed, n, "logprobs", handles) for n in ("policy", "reference"))
            mean = float((policy - reference).double().sum()) / sum(len(g.completions) for g in crossed)
        baseline = max(0.0, mean)
        handles.record({"kto/baseline": baseline})
        return baseline
