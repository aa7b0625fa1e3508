"""What a comparison found, in sentences computed from its numbers.

A direction ("gains", "loses") is only claimed where the 95 % interval excludes zero.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

from trueup.errors import counted
from trueup.reports.checked import Interval
from trueup.reports.headline import label, score_of, tax_clause
from trueup.reports.numbers import count, duration, estimate, listed, nats, plain, scientific


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodResult:
    """One method at its chosen setting; None or empty for what was not measured."""

    name: str
    family: str
    chosen: str
    gold: Interval | None
    gain: Interval
    "Over seeds; it has no ends with one seed."
    gain_over_prompts: Interval | None
    behind_best: Interval | None
    "The largest gain minus this one, paired by seed; None for the largest, and with one seed."
    proxy: float | None
    kl: float | None
    kl_error: float | None
    length: float | None
    scores: Mapping[str, float]
    tax: Mapping[str, Interval]
    "By exam; negative is a loss."
    cost: Mapping[str, float]

    @property
    def said(self) -> str:
        """Its name as people say it."""
        return label(self.name)

    @property
    def distance(self) -> float | None:
        """√KL to the start; an estimate below zero counts as none."""
        return None if self.kl is None else math.sqrt(max(self.kl, 0.0))

    @property
    def distance_error(self) -> float | None:
        """Standard error of √KL by the delta method; None at no distance."""
        return self.kl_error / (2 * self.distance) if self.kl_error is not None and self.distance else None

    @property
    def claim(self) -> Interval:
        """The gain with the interval that claims rest on: over seeds, with one seed over prompts."""
        return self.gain if self.gain.low is not None else self.gain_over_prompts or self.gain


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A whole comparison, methods by gain, largest first."""

    name: str
    start: str
    start_gold: float | None
    start_length: float | None
    budget: float | None
    num_seeds: int
    num_prompts: int | None
    methods: tuple[MethodResult, ...]
    failed: Mapping[str, str]
    judge: str = "gold"
    "What tells better from worse: the judge that is believed; empty where its name is not in the file."
    by_trainer: tuple[str, ...] = ()
    "Methods whose training asked the judge that they are measured by."

    @property
    def reward(self) -> str:
        """What a completion is worth, as a noun: the gold reward, or the score of a world's judge."""
        return "gold reward" if self.judge == "gold" else score_of(self.judge)

    @property
    def kept(self) -> str:
        """The same as shortly as can be, for a column."""
        return "gold" if self.judge == "gold" else score_of(self.judge)

    @property
    def origin(self) -> str:
        """The start's name as people say it."""
        return label(self.start)


def trainer_sentence(c: Compared) -> str:
    """That a judge measures what it trained, where one does: it is then the proxy and no referee."""
    if not c.by_trainer:
        return ""
    it, them = ("it", "it") if len(c.by_trainer) == 1 else ("they", "them")
    return (
        f"Proxy, not referee: {listed([label(name) for name in c.by_trainer])} learned from the judge that "
        f"measures {them} here{f', {c.judge}' if c.judge else ''}. What {it} gained says how well it was "
        "pleased; a judge that trained no method would be a referee."
    )


def headline(c: Compared) -> str:
    """The answer in one sentence: which method gains most, how much, at which distance and price."""
    if not c.methods:
        return "No method of this comparison ended, so nothing can be compared."
    best, budget = c.methods[0], f"On {scientific(c.budget)} FLOP a run" if c.budget else "Without a budget"
    size = estimate(best.claim, signed=True, say_unknown=True, space="\u00a0")
    if best.claim.sign <= 0:
        return (
            f"{budget}, no method measurably raises the {c.reward} over {c.origin}; "
            f"the largest mean gain is that of {best.said}: {size}."
        )
    far = "" if best.kl is None else f" at KL {nats(best.kl)}"
    return f"{budget}, {best.said} gains most: {c.reward} {size} over {c.origin}{far}{_price(best)}."


def details(c: Compared) -> list[str]:
    """What else a reader needs to choose: who comes close, who is cheaper, who loses, what the proxy says."""
    if not c.methods:
        return _failures(c)
    sentences = [_close(c), _alternatives(c), _directions(c), _taxes(c), _length(c), proxy_order(c)]
    return [sentence for sentence in sentences if sentence] + _failures(c)


def close_to_best(c: Compared) -> list[MethodResult]:
    """The methods whose distance to the largest gain is not measurable."""
    return [m for m in c.methods[1:] if m.behind_best is not None and m.behind_best.sign <= 0]


def front(c: Compared) -> list[MethodResult]:
    """The methods that no other beats in mean gold at less or equal KL, nearest first."""
    known = [m for m in c.methods if m.kl is not None and m.gold is not None]
    known.sort(key=lambda m: (m.kl or 0.0, -(m.gold.mean if m.gold else 0.0)))
    kept: list[MethodResult] = []
    highest = c.start_gold if c.start_gold is not None else -math.inf
    for m in known:
        if m.gold is not None and m.gold.mean > highest:
            kept.append(m)
            highest = m.gold.mean
    return kept


def front_sentence(c: Compared) -> str:
    """Who stands on the front of gold against KL; "" where no KL was measured."""
    found = [
        f"{m.said} (KL {nats(m.kl)}, {c.kept} {plain(m.gold.mean if m.gold else None)})" for m in front(c)
    ]
    if not found:
        return ""
    return f"No method has a higher mean {c.kept} at less distance than {listed(found)}."


def proxy_order(c: Compared) -> str:
    """How many pairs of methods the proxy puts in gold's order; "" where it was not measured."""
    known = [(m.name, m.proxy, m.gold.mean) for m in c.methods if m.proxy is not None and m.gold is not None]
    pairs = [(a, b) for a, b in combinations(known, 2) if a[1] != b[1] and a[2] != b[2]]
    if not pairs:
        return ""
    agreed = sum((a[1] - b[1]) * (a[2] - b[2]) > 0 for a, b in pairs)
    sentence = f"The proxy puts {agreed} of {len(pairs)} pairs of methods in the order of the {c.reward}"
    liked = max(known, key=lambda row: row[1])
    rank = 1 + sum(row[2] > liked[2] for row in known)
    return (
        f"{sentence}; the one it likes best, {label(liked[0])}, is number {rank} of {len(known)} in {c.kept}."
    )


def _price(m: MethodResult) -> str:
    parts = [
        f"{count(m.cost[key])} tokens {said}"
        for key, said in (("tokens_trained", "trained"), ("tokens_sampled", "sampled"))
        if m.cost.get(key)
    ]
    if "seconds" in m.cost:
        parts.append(duration(m.cost["seconds"]))
    return f", for {listed(parts)}" if parts else ""


def _close(c: Compared) -> str:
    best, others = c.methods[0], c.methods[1:]
    if not others:
        return ""
    if all(m.behind_best is None for m in others):
        return "With one seed, who would win on another is not known." if c.num_seeds == 1 else ""
    close = close_to_best(c)
    if not close:
        return f"Its lead over every other method is measurable over {c.num_seeds} seeds."
    ahead = sum(m.behind_best is not None and m.behind_best.sign > 0 for m in others)
    return (
        f"Over {c.num_seeds} seeds {best.said} is measurably ahead of {ahead} of the other {len(others)}, "
        f"and not of {listed([m.said for m in close])}."
    )


def _alternatives(c: Compared) -> str:
    """Of those that cannot be told from the best, the quickest and the nearest, where these are others."""
    best, group = c.methods[0], [c.methods[0], *close_to_best(c)]
    parts = []
    timed = [m for m in group if "seconds" in m.cost]
    if timed and (quick := min(timed, key=lambda m: m.cost["seconds"])) is not best:
        parts.append(f"{quick.said} is the quickest ({duration(quick.cost['seconds'])})")
    moved = [m for m in group if m.kl is not None]
    if moved and (near := min(moved, key=lambda m: m.kl or 0.0)) is not best:
        parts.append(f"{near.said} stays nearest to {c.origin} (KL {nats(near.kl)})")
    return f"Of these and {best.said}, {listed(parts)}." if parts else ""


def _directions(c: Compared) -> str:
    raised = sum(m.claim.sign > 0 for m in c.methods)
    lowered = [m.said for m in c.methods if m.claim.sign < 0]
    others = f"; {listed(lowered)} lower{'s' * (len(lowered) == 1)} it" if lowered else ""
    return f"{raised} of {len(c.methods)} methods measurably raise the {c.reward} over {c.origin}{others}."


def _taxes(c: Compared) -> str:
    """What the best lost on exams, and how many lost nothing that can be measured."""
    best, sat = c.methods[0], [m for m in c.methods if m.tax]
    if not best.tax:
        return "" if sat else "The alignment tax was not measured."
    sentence = f"{best.said}: {tax_clause(best.tax)}"
    lost = Counter(exam for m in sat for exam, kept in m.tax.items() if kept.sign < 0)
    free = [m for m in sat if not any(kept.sign < 0 for kept in m.tax.values())]
    if not free:
        exam, losers = lost.most_common(1)[0]
        return f"{sentence}; every method pays on some exam, most often on {exam} ({losers} of {len(sat)})."
    has = "has" if len(free) == 1 else "have"
    return f"{sentence}; {len(free)} of {len(sat)} methods {has} no measurable tax."


def _length(c: Compared) -> str:
    best = c.methods[0]
    if best.length is None or c.start_length is None:
        return ""
    return (
        f"Completions of {best.said} have {best.length:.1f} tokens, those of {c.origin} {c.start_length:.1f}."
    )


def _failures(c: Compared) -> list[str]:
    if not c.failed:
        return []
    runs = counted(len(c.failed), "run failed and is", "runs failed and are")
    return [f"{runs} left out: {listed(list(c.failed))}."]
