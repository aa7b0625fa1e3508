"""Judged groups as reward models learn from them: pairs, orders, what to imitate, quality tags."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from trueup.engine.groups import Comparison, Group, Ranking
from trueup.engine.views import flat, mapped
from trueup.errors import TrueupError
from trueup.sources.files import unbeaten


def ordered(groups: Sequence[Group]) -> Sequence[Group]:
    """One group for every ranking and every plain choice, its completions marked with their `tier`.

    Tier 0 is the best. Completions that a judgement leaves out are left out; a tie of all orders nothing and
    gives no group. Raises E402 for a soft label, which is no order.
    """
    return flat(groups, lambda group: tuple(_orders(group)))


def _orders(group: Group) -> Iterator[Group]:
    for comparison in group.comparisons:
        if comparison.probability is not None:
            raise TrueupError(
                "E402",
                "a soft label is no order, and this loss learns from orders",
                where=f"group {group.id}",
                remedy="use `loss: bradley_terry`, or leave `probability` out",
            )
        if comparison.choice != "tie":
            first, second = (comparison.a, comparison.b)
            best, rest = (first, second) if comparison.choice == "a" else (second, first)
            tiers = Ranking(tiers=((best,), (rest,)), labeler=comparison.labeler)
            yield _in_order(replace(group, rankings=(), comparisons=(comparison,)), tiers)
    for ranking in group.rankings:
        if len(ranking.tiers) > 1:
            yield _in_order(replace(group, rankings=(ranking,), comparisons=()), ranking)


def _in_order(group: Group, ranking: Ranking) -> Group:
    """The ranked completions alone, with their tiers as marks."""
    tier = {i: t for t, tied in enumerate(ranking.tiers) for i in tied}
    kept = [i for i in range(len(group.completions)) if i in tier]
    place = {old: new for new, old in enumerate(kept)}
    completions = [group.completions[i].with_marks(tier=float(tier[i])) for i in kept]
    return replace(
        group,
        completions=tuple(completions),
        comparisons=tuple(replace(c, a=place[c.a], b=place[c.b], shown=None) for c in group.comparisons),
        rankings=tuple(
            replace(r, tiers=tuple(tuple(place[i] for i in tied) for tied in r.tiers)) for r in group.rankings
        ),
        scores=(),
    )


def with_imitate(groups: Sequence[Group]) -> Sequence[Group]:
    """The groups with the mark `imitate`: 1 shared among those preferred at least once and never rejected."""

    def marked(group: Group) -> Group:
        good = unbeaten(group)
        share = 1 / len(good) if good else 0.0
        return group.with_completions(
            [c.with_marks(imitate=share * (i in good)) for i, c in enumerate(group.completions)]
        )

    return mapped(groups, marked)


def binarised(groups: Sequence[Group], good: np.ndarray, bad: np.ndarray) -> Sequence[Group]:
    """Each preference A ≻ B as two comparisons of tags: (good, A) ≻ (bad, A) and (bad, B) ≻ (good, B).

    `good` and `bad` are the tags' token ids; a tag stands before the completion's own tokens and no loss
    touches it. Every pair becomes one group of four completions, in the order good A, bad A, bad B, good B;
    `imitate` marks the first, the good completion under the good tag. Soft labels pass to both comparisons.
    """
    return flat(groups, lambda group: [_binary(group, *pair[:3], good, bad) for pair in group.pairs()])


def _binary(group: Group, a: int, b: int, p: float, good: np.ndarray, bad: np.ndarray) -> Group:
    completions = []
    for index, tag, imitated in ((a, good, 1.0), (a, bad, 0.0), (b, bad, 0.0), (b, good, 0.0)):
        whole = group.completions[index]
        assert whole.tokens is not None, "encode the group first"
        own = np.ones(len(whole.tokens), bool) if whole.supervised is None else whole.supervised
        completions.append(
            replace(
                whole,
                tokens=np.concatenate([tag, whole.tokens]).astype(np.int32),
                supervised=np.concatenate([np.zeros(len(tag), bool), own]),
                columns={},
                marks={"imitate": imitated},
            )
        )
    soft = None if p == 1 else p
    return replace(
        group,
        completions=tuple(completions),
        comparisons=tuple(Comparison(a=i, b=i + 1, choice="a", probability=soft) for i in (0, 2)),
        rankings=(),
        scores=(),
    )
