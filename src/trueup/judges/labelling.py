"""Groups judged by whoever a reference names: compared in both orders, or scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations, groupby
from typing import Literal

from trueup.engine.groups import Comparison, Group, Ranking, Score
from trueup.engine.order import permutation
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


def ranked_by_scores(groups: Sequence[Group], scores: Sequence[Sequence[float]], by: str) -> list[Group]:
    """The groups with the ranking that scores make of their completions, equals in one tier.

    A group whose completions all score the same says nothing, and comes back as it was.
    """
    return [_ranked(group, values, by) for group, values in zip(groups, scores, strict=True)]


def ranked_by_comparisons(groups: Sequence[Group]) -> list[Group]:
    """The groups with rankings in place of their comparisons: by the sum of each completion's shares.

    Σ_j p(i ≻ j) over the pairs that were judged (Copeland's count, with soft labels); a pair that could not
    be read, and one of equal texts, counts ½ for both sides.
    """
    found = []
    for group in groups:
        size = len(group.completions)
        shares = [(size - 1) / 2] * size
        for c in group.comparisons:
            p = c.probability if c.probability is not None else {"a": 1.0, "tie": 0.5, "b": 0.0}[c.choice]
            shares[c.a] += p - 0.5
            shares[c.b] += 0.5 - p
        by = next((c.labeler for c in group.comparisons), "")
        found.append(_ranked(replace(group, comparisons=()), [round(share, 9) for share in shares], by))
    return found


def compared_by_scores(
    groups: Sequence[Group], scores: Sequence[Sequence[float]], by: str, *, num_comparisons: int, seed: int
) -> list[Group]:
    """The groups with comparisons of up to `num_comparisons` pairs of different texts; equal scores tie."""
    found = []
    for place, (group, values) in enumerate(zip(groups, scores, strict=True)):
        texts = [c.said for c in group.completions]
        pairs = [(a, b) for a, b in combinations(range(len(texts)), 2) if texts[a] != texts[b]]
        order = permutation(len(pairs), seed, "duels", group.id or place)
        made = [
            Comparison(a=a, b=b, choice=_higher(values[a], values[b]), labeler=by)
            for a, b in (pairs[i] for i in sorted(order[:num_comparisons].tolist()))
        ]
        found.append(replace(group, comparisons=(*group.comparisons, *made)))
    return found


def _higher(a: float, b: float) -> Literal["a", "b", "tie"]:
    return "tie" if a == b else "a" if a > b else "b"


def _ranked(group: Group, values: Sequence[float], by: str) -> Group:
    order = sorted(range(len(values)), key=lambda i: (-values[i], i))
    tiers = tuple(tuple(tier) for _, tier in groupby(order, key=lambda i: values[i]))
    return (
        group
        if len(tiers) < 2
        else replace(group, rankings=(*group.rankings, Ranking(tiers=tiers, labeler=by)))
    )
