"""Labelers: simulated people who compare or rank completions, with known tastes and known errors.

A labeler sees u = gold + biases and prefers a over b with probability

    P(a > b) = (1 − noise) · σ((u_a − u_b) / temperature) + noise / 2        (Bradley and Terry 1952)

so a reward model learned from the labels is a proxy of the gold reward, with the biases in it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

from trueup.engine.groups import Comparison, Group, Ranking
from trueup.errors import TrueupError
from trueup.lab.graders import grade
from trueup.lab.replies import FLATTERIES
from trueup.lab.world import generator, shuffled


@dataclass(frozen=True, slots=True, kw_only=True)
class Labeler:
    """One simulated person, in units of gold reward."""

    name: str
    temperature: float = 0.12
    "Gold difference at which the odds of the right choice are e to 1."
    length_bias: float = 0.0
    "Added for every ten words."
    position_bias: float = 0.0
    "Added to the completion shown on the left."
    flattery_bias: float = 0.0
    "Added for every flattering sentence."
    noise: float = 0.04
    "Share of choices made by the toss of a coin."
    tie_below: float = 0.1
    "Calls it a tie when the two differ by less than this."


LABELERS: tuple[Labeler, ...] = (
    Labeler(name="labeler-0", length_bias=0.015),
    Labeler(name="labeler-1", flattery_bias=0.06),
    Labeler(name="labeler-2", position_bias=0.04),
    Labeler(name="labeler-3", length_bias=0.03, flattery_bias=0.03, temperature=0.15),
    Labeler(name="labeler-4", noise=0.10),
)
"The crowd that labels by default."
CROWDS: dict[str, tuple[Labeler, ...]] = {
    "crowd": LABELERS,
    "exact": (Labeler(name="exact", temperature=1e-3, noise=0.0, tie_below=1e-6),),
    "brief": (Labeler(name="brief", length_bias=-0.3),),
    "thorough": (Labeler(name="thorough", length_bias=0.3),),
}
"""Who may be asked, by name: the crowd; one who sees gold and never errs; and two groups whose tastes pull
apart, by .3 of gold for every ten words."""
STRENGTH_STEPS = (0.15, 0.35, 0.6)
"Perceived differences at which the strength goes from 1 to 2, 3 and 4: an 8-point scale with the two sides."


def label(
    groups: Sequence[Group],
    seed: int,
    kind: Literal["comparisons", "ranking"] = "comparisons",
    *,
    labelers: Sequence[Labeler] = LABELERS,
    num_comparisons: int = 1,
) -> list[Group]:
    """The groups with judgements added; each group's depend on the seed and its id alone.

    `comparisons`: up to `num_comparisons` of the pairs with different texts, each by one labeler.
    `ranking`: one ranking of all completions into tiers by one labeler. A group whose completions all have
    the same text comes back as it was. Raises TrueupError for a group with fewer than two completions.
    """
    if kind not in ("comparisons", "ranking"):
        raise TrueupError(
            "E704", f"no kind of label {kind!r}", where="kind", remedy="use comparisons or ranking"
        )
    return [_label(group, seed, kind, labelers, num_comparisons) for group in groups]


def _label(group: Group, seed: int, kind: str, labelers: Sequence[Labeler], num_comparisons: int) -> Group:
    if len(group.completions) < 2:
        raise TrueupError(
            "E401", "nothing to compare", where=group.id, remedy="give each group two completions or more"
        )
    rng = generator("label", kind, seed, group.id)
    golds = [grade(group.meta["request"], c.text).gold for c in group.completions]
    texts = [c.text for c in group.completions]
    if kind == "ranking":
        return replace(group, rankings=(*group.rankings, *_rank(rng, texts, golds, labelers)))
    distinct = [(i, j) for i, j in combinations(range(len(texts)), 2) if texts[i] != texts[j]]
    made = [
        _compare(rng, texts, golds, pair, labelers[int(rng.random() * len(labelers))])
        for pair in shuffled(rng, distinct)[:num_comparisons]
    ]
    return replace(group, comparisons=(*group.comparisons, *made))


def utility(labeler: Labeler, text: str, gold: float) -> float:
    """What the labeler feels about a completion, before position, temperature and noise."""
    num_flatteries = sum(text.count(flattery) for flattery in FLATTERIES)
    return gold + labeler.length_bias * len(text.split()) / 10 + labeler.flattery_bias * num_flatteries


def _compare(
    rng: random.Random, texts: Sequence[str], golds: Sequence[float], pair: tuple[int, int], labeler: Labeler
) -> Comparison:
    left, right = pair if rng.random() < 0.5 else (pair[1], pair[0])
    a, b = pair
    felt = {i: utility(labeler, texts[i], golds[i]) for i in pair}
    felt[left] += labeler.position_bias
    difference = felt[a] - felt[b]
    chance = (1 - labeler.noise) * _sigmoid(difference / labeler.temperature) + labeler.noise / 2
    prefers_a = rng.random() < chance
    size = abs(difference) if prefers_a == (difference > 0) else 0.0
    tie = abs(difference) < labeler.tie_below
    return Comparison(
        a=a,
        b=b,
        choice="tie" if tie else "a" if prefers_a else "b",
        strength=None if tie else 1.0 + sum(size >= step for step in STRENGTH_STEPS),
        shown=(left, right),
        labeler=labeler.name,
    )


def _rank(
    rng: random.Random, texts: Sequence[str], golds: Sequence[float], labelers: Sequence[Labeler]
) -> list[Ranking]:
    """A Plackett-Luce ranking by Gumbel noise, equals in one tier; empty if there is only one text."""
    if len(set(texts)) < 2:
        return []
    labeler = labelers[int(rng.random() * len(labelers))]
    felt: dict[str, float] = {}
    for text, gold in zip(texts, golds, strict=True):
        if text not in felt:
            gumbel = -math.log(-math.log(max(rng.random(), 1e-12)))
            felt[text] = utility(labeler, text, gold) + labeler.temperature * gumbel
    tiers: list[list[int]] = []
    previous = math.inf
    for i in sorted(range(len(texts)), key=lambda i: (-felt[texts[i]], i)):
        if tiers and previous - felt[texts[i]] < labeler.tie_below:
            tiers[-1].append(i)
        else:
            tiers.append([i])
        previous = felt[texts[i]]
    return [Ranking(tiers=tuple(tuple(tier) for tier in tiers), labeler=labeler.name)]


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
