"""A labeler that follows the rules: completions compared or ranked by the mean of the two judges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Literal

from trueup.engine.groups import Comparison, Group, Ranking
from trueup.errors import TrueupError
from trueup.real.judges import grade
from trueup.real.material import generator

LABELER = "rules"


def label(
    groups: Sequence[Group],
    seed: int = 0,
    kind: Literal["comparisons", "ranking"] = "comparisons",
    *,
    num_comparisons: int = 1,
) -> list[Group]:
    """The groups with judgements without errors; where all completions are worth the same there are none.

    `comparisons`: up to `num_comparisons` pairs, those that differ most first, equals in an order of chance.
    `ranking`: tiers of equal worth. Raises E704 for another kind.
    """
    if kind not in ("comparisons", "ranking"):
        raise TrueupError(
            "E704", f"no kind of label {kind!r}", where="kind", remedy="use comparisons or ranking"
        )
    return [_label(group, seed, kind, num_comparisons) for group in groups]


def _label(group: Group, seed: int, kind: str, num_comparisons: int) -> Group:
    worth = [float(grade(group, c.text)["gold"]) for c in group.completions]
    if kind == "ranking":
        tiers = tuple(
            tuple(i for i, w in enumerate(worth) if w == v) for v in sorted(set(worth), reverse=True)
        )
        return replace(group, rankings=(Ranking(tiers=tiers, labeler=LABELER),)) if len(tiers) > 1 else group
    rng = generator("label", seed, group.id)
    pairs = [pair for pair in combinations(range(len(worth)), 2) if worth[pair[0]] != worth[pair[1]]]
    rng.shuffle(pairs)
    pairs.sort(key=lambda pair: -abs(worth[pair[0]] - worth[pair[1]]))
    made = [
        Comparison(a=a, b=b, choice="a" if worth[a] > worth[b] else "b", labeler=LABELER)
        for a, b in pairs[:num_comparisons]
    ]
    return replace(group, comparisons=tuple(made))
