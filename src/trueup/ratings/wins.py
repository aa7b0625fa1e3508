"""Win rates between two models, both orders of presentation balanced, with intervals over prompts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

from trueup.ratings.battles import Battle
from trueup.statistics.estimates import WinRate, win_rate


@dataclass(frozen=True, slots=True, kw_only=True)
class PairWins:
    """How often `a` beat `b`."""

    a: str
    b: str
    rate: WinRate
    battles: int
    swapped: int
    "Prompts on which each of the two was shown first at least once."


def pair_wins(battles: Iterable[Battle], *, level: float = 0.95) -> list[PairWins]:
    """The win rate of every two models that met, each named once, in alphabetical order.

    Every prompt counts once: its games are averaged within each order of presentation, then over the orders,
    w = 1/(2N) Σ (s_AB + 1 - s_BA), so that a judge who always picks the first gives exactly ½ on prompts
    shown both ways. The interval is that of `statistics.win_rate` over prompts, not games. A battle without
    a prompt is a prompt of its own.
    """
    games: dict[tuple[str, str], dict[str | int, list[Battle]]] = defaultdict(lambda: defaultdict(list))
    for place, battle in enumerate(battles):
        turned = battle if battle.a < battle.b else _turned(battle)
        games[turned.a, turned.b][turned.prompt or place].append(turned)
    return [_pair(a, b, list(prompts.values()), level) for (a, b), prompts in sorted(games.items())]


def turn_around(pair: PairWins) -> PairWins:
    """The same pair seen from `b`: its win rate is 1 less a's."""
    e = pair.rate.estimate
    estimate = replace(e, mean=1 - e.mean, low=1 - e.high, high=1 - e.low)
    return replace(pair, a=pair.b, b=pair.a, rate=replace(pair.rate, estimate=estimate))


def _pair(a: str, b: str, prompts: list[list[Battle]], level: float) -> PairWins:
    shares: list[float] = []
    disagree: list[bool] = []
    for games in prompts:
        orders = [[g.win for g in games if g.first == first] for first in ("a", "b", "")]
        means = [sum(wins) / len(wins) for wins in orders if wins]
        shares.append(sum(means) / len(means))
        if orders[0] and orders[1]:
            disagree.append(abs(means[0] - means[1]) > 1e-9)
    inconsistent = sum(disagree) / len(disagree) if disagree else None
    rate = replace(win_rate(shares, level=level), inconsistent=inconsistent)
    return PairWins(a=a, b=b, rate=rate, battles=sum(map(len, prompts)), swapped=len(disagree))


def _turned(battle: Battle) -> Battle:
    first = {"a": "b", "b": "a", "": ""}[battle.first]
    return replace(battle, a=battle.b, b=battle.a, win=1 - battle.win, first=first)
