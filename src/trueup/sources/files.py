"""Groups from files, the lab, or earlier stages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from trueup.engine.groups import Group
from trueup.engine.method import Beside, Handles, Objective, Parts
from trueup.engine.order import draw
from trueup.engine.views import flat, picked, where
from trueup.errors import TrueupError


@dataclass(frozen=True, kw_only=True, eq=False)
class Files:
    """Yields `batch` groups a step, walking through fresh permutations of all of them.

    The groups are encoded already. `written` names the columns and marks they carry.
    """

    groups: Sequence[Group]
    batch: int
    written: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Raises E604 when there is nothing to learn from."""
        if not self.groups:
            raise TrueupError(
                "E604",
                "no row that this method can learn from",
                where="data",
                remedy="comparisons are wanted for preferences, completions for demonstrations, judged steps "
                "for prm; `trueup preview` shows the rows",
            )

    @property
    def writes(self) -> frozenset[str]:
        """What the groups carry."""
        return self.written

    def __call__(self, step: int, handles: Handles) -> Sequence[Group]:
        """The groups of step `step`."""
        return picked(self.groups, draw(len(self.groups), self.batch, step, handles.seed, handles.epochs))


@dataclass(frozen=True, kw_only=True, eq=False)
class Everything:
    """Yields all its groups at every call, in order: the held-out set."""

    groups: Sequence[Group]
    written: frozenset[str] = frozenset()

    @property
    def writes(self) -> frozenset[str]:
        """What the groups carry."""
        return self.written

    def __call__(self, step: int, handles: Handles) -> Sequence[Group]:
        """All groups, where they lie."""
        return self.groups


def from_files(parts: Parts, *, batch: int, keep: Callable[[Group], bool]) -> tuple[Files, Files | None]:
    """Those of a method's groups that `keep` wants, and all such held-out ones where there are any."""
    held_out = where(parts.held_out, keep)
    source = Files(groups=where(parts.groups, keep), batch=batch)
    return source, Files(groups=held_out, batch=len(held_out)) if held_out else None


def judged(group: Group) -> bool:
    """Whether the group says of its completions which is better, by comparisons, rankings or scores."""
    return bool(group.pairs() or group.scores)


def beside_demonstrations(groups: Sequence[Group], objective: Objective, weight: float) -> Beside:
    """A loss beside every update on as many of the groups' demonstrations as the minibatch has groups.

    A demonstration is a group with one completion and no judgement; raises E604 when there is none.
    """
    found = where(groups, lambda group: len(group.completions) == 1 and not judged(group))
    if not found:
        remedy = "mix some in: data.mix: {pairs: world:comparisons, sft: world:demonstrations}"
        raise TrueupError("E604", "no row with one completion and no judgement", where="data", remedy=remedy)

    def drawn(minibatch: Sequence[Group], number: int, handles: Handles) -> list[Group]:
        return [found[i] for i in draw(len(found), len(minibatch), number, handles.seed)]

    return Beside(groups=drawn, objective=objective, weight=weight)


def unbeaten(group: Group) -> set[int]:
    """The completions that were preferred at least once and never rejected."""
    pairs = [pair for pair in group.pairs() if pair.label != 0.5]
    won = {p.chosen if p.label > 0.5 else p.rejected for p in pairs}
    return won - {p.rejected if p.label > 0.5 else p.chosen for p in pairs}


def preferred(group: Group) -> Group:
    """The group with only the completions worth imitating.

    Where people compared or ranked, those that were preferred at least once and never rejected; where they
    called completions good or bad, the good ones; where they only scored, those with the highest score;
    otherwise all of them.
    """
    if any(pair.label != 0.5 for pair in group.pairs()):
        kept = unbeaten(group)
    elif any(score.judge == "label" for score in group.scores):
        kept = {score.completion for score in group.scores if score.judge == "label" and score.value > 0}
    elif group.scores:
        best = max(score.value for score in group.scores)
        kept = {score.completion for score in group.scores if score.value == best}
    else:
        return group
    completions = tuple(c for i, c in enumerate(group.completions) if i in kept)
    return replace(group, completions=completions, comparisons=(), rankings=(), scores=())


def with_pairs(groups: Sequence[Group]) -> Sequence[Group]:
    """The groups in which at least one completion was preferred to another."""
    return where(groups, lambda group: group.pairs())


def demonstrations(groups: Sequence[Group]) -> Sequence[Group]:
    """What is worth imitating in each group; groups where nothing is are left out."""
    return flat(groups, lambda group: (kept,) if (kept := preferred(group)).completions else ())
