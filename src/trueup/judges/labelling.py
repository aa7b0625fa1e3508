"""Groups judged by whoever a reference names: compared in both orders, or scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from trueup.engine.groups import Group, Score
from trueup.errors import TrueupError, counted
from trueup.judges.language_model import PREFIX, Account, open_pairwise
from trueup.judges.open import open_judge

How = Literal["apart", "averaged", "scores"]
"What is written: each order's choice, one soft label of both, or a number for each completion."


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """Groups with what was said of them."""

    groups: list[Group]
    account: Account | None
    "How the comparing went; None where completions were scored."
    num_scored: int = 0


def judge_groups(
    groups: Sequence[Group], by: str, *, how: How = "apart", num_comparisons: int = 0, seed: int = 0
) -> Judgement:
    """The groups as `by` judges them. Raises E792 for who scores and does not compare."""
    if how == "scores":
        judged = with_scores(groups, open_judge(by)(groups), by)
        return Judgement(groups=judged, account=None, num_scored=sum(len(g.completions) for g in groups))
    if not by.startswith(PREFIX):
        raise TrueupError(
            "E792", f"{by!r} scores, it does not compare", where="by", remedy="use --how scores, or lm:MODEL"
        )
    judged, account = open_pairwise(by).label(groups, num_comparisons=num_comparisons, orders=how, seed=seed)
    return Judgement(groups=judged, account=account)


def sentence(said: Judgement) -> str:
    """How it went, for people."""
    account = said.account
    if account is None:
        return f"{counted(said.num_scored, 'completion')} scored"
    return (
        f"{counted(account.pairs, 'pair')} judged in both orders: {100 * account.inconsistent:.1f} % changed "
        f"with the order, {account.unread} could not be read, "
        f"{counted(account.identical, 'identical pair')} left out; "
        f"{100 * account.mass:.1f} % of what the judge would say is a verdict"
    )


def with_scores(groups: Sequence[Group], scores: Sequence[Sequence[float]], by: str) -> list[Group]:
    """The groups with a score of every completion."""
    return [
        replace(
            group,
            scores=(*group.scores, *(Score(completion=i, value=v, judge=by) for i, v in enumerate(values))),
        )
        for group, values in zip(groups, scores, strict=True)
    ]
