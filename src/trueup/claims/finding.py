"""What a claim's file is made of: numbers of its trials by seed, effects with a verdict, and a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from markupsafe import Markup

from trueup.claims.experiment import Floats, Trial
from trueup.errors import TrueupError
from trueup.reports import figures
from trueup.statistics.estimates import mean_ci

Trials = Sequence[Trial]
"One for each seed."
Verdict = Literal["holds", "does not hold here", "no effect beyond ±X", "undecided"]
WORST: tuple[Verdict, ...] = ("does not hold here", "undecided", "no effect beyond ±X", "holds")
"A claim of several effects has the first of these that one of them has."


def means(trials: Trials, stages: Mapping[str, str], name: str = "gold") -> dict[str, Floats]:
    """A number's mean at every seed by the name that is shown: {"PPO": "m_ppo"} gives PPO's gold reward."""
    return {shown: np.array([t.mean(stage, name) for t in trials]) for shown, stage in stages.items()}


def handed_on(trials: Trials, stages: Mapping[str, str], name: str) -> dict[str, Floats]:
    """What stages logged last under a name, at every seed, by the name that is shown."""
    return {shown: np.array([t.done(stage).metrics[name] for t in trials]) for shown, stage in stages.items()}


def places(across: Mapping[str, Floats], up: Mapping[str, Floats]) -> dict[str, list[tuple[float, float]]]:
    """A point for every seed, by name: one number of each against the other."""
    return {name: list(zip(across[name].tolist(), up[name].tolist(), strict=True)) for name in across}


@dataclass(frozen=True, kw_only=True)
class Effect:
    """One measured number, its interval, and where the claim says that it lies."""

    name: str
    value: float
    wanted: tuple[float | None, float | None]
    "The claim holds for numbers from the first to the second; None leaves an end open."
    interval: tuple[float, float] | None = None
    "95 % interval of the value; None where nothing is random."
    unit: str = ""
    by_seed: tuple[float, ...] = ()
    margin: float | None = None
    "X, named before anything is run: within X of `null` an effect counts as none. None names none."
    null: float = 0.0
    "What would be no effect: 0 for a difference, 1 for a ratio; of a number that is none, its bound."

    def __post_init__(self) -> None:
        """Raises E870 for a margin that does not reach beyond the ends of what is wanted."""
        if self.margin is not None and self.room <= 0:
            raise TrueupError(
                "E870",
                f"the margin ±{self.margin:g} of `{self.name}` does not reach beyond the wanted range's ends",
                where="claim",
                remedy="name a larger margin, or an end nearer to no effect",
            )

    @property
    def room(self) -> float:
        """X − d: how wide an interval may be and still be decided, wherever it lies (`planning`)."""
        ends = [abs(end - self.null) for end in self.wanted if end is not None]
        return (self.margin or 0.0) - max(ends, default=0.0)

    @property
    def verdict(self) -> Verdict:
        """`holds` where the whole interval is wanted, `does not hold here` where none of it is.

        Of the others, `no effect beyond ±X` where the whole interval is within the margin, else `undecided`.
        An effect that is exactly none at every seed never holds by lying on the end of what is wanted.
        """
        low, high = self.interval or (self.value, self.value)
        if low == high == self.null and self.null in self.wanted:
            return "does not hold here" if self.margin is None else "no effect beyond ±X"
        least = -math.inf if self.wanted[0] is None else self.wanted[0]
        most = math.inf if self.wanted[1] is None else self.wanted[1]
        if least <= low and high <= most:
            return "holds"
        if not (low <= most and high >= least):
            return "does not hold here"
        near = max(abs(low - self.null), abs(high - self.null))
        return "no effect beyond ±X" if self.margin is not None and near <= self.margin else "undecided"


def over_seeds(
    name: str,
    values: Sequence[float] | Floats,
    wanted: tuple[float | None, float | None],
    unit: str = "",
    *,
    margin: float | None = None,
    null: float = 0.0,
) -> Effect:
    """The mean over seeds with its 95 % t interval, m ± t_{n−1} s/√n; two values at least, one a seed.

    `margin` is X of the verdict "no effect beyond ±X", which is about `null`.
    """
    found = mean_ci(np.asarray(values, np.float64))
    return Effect(
        name=name,
        value=found.mean,
        interval=(found.low, found.high),
        wanted=wanted,
        unit=unit,
        by_seed=tuple(float(v) for v in values),
        margin=margin,
        null=null,
    )


def dots(values: Mapping[str, Sequence[float] | Floats], **drawn: Any) -> Markup:
    """`figures.dots` of each name's values over seeds, with the 95 % t interval of their mean."""
    found = {name: mean_ci(np.asarray(given, np.float64)) for name, given in values.items()}
    rows = [figures.Dots(name, list(values[name]), e.low, e.high) for name, e in found.items()]
    return figures.dots(rows, **drawn)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What measuring a claim gave."""

    effects: tuple[Effect, ...]
    setting: str
    "What was done, in a sentence or two."
    figure: Markup
    "An SVG drawing that needs nothing beside it."
    caption: str = "One dot a seed, the mean with its 95 % interval."
    because: str = ""
    "What is known of why, said where the claim does not hold here."

    @property
    def verdict(self) -> Verdict:
        """The worst of the effects' verdicts, in the order of `WORST`; of none, `undecided`."""
        if not self.effects:
            return "undecided"
        return min(self.effects, key=lambda effect: WORST.index(effect.verdict)).verdict


def worded(verdict: str, effects: Sequence[Effect], seeds: Sequence[int]) -> str:
    """A claim's verdict in full: with its margins, or with how many seeds it was undecided."""
    if verdict == "undecided" and seeds:
        return f"undecided with {len(seeds)} seeds" if len(seeds) > 1 else "undecided with one seed"
    if verdict == "no effect beyond ±X":
        near = [e for e in effects if e.verdict == verdict and e.margin is not None]
        none = " and ".join(dict.fromkeys(f"±{e.margin:g}" for e in near if not e.null))
        bounds = dict.fromkeys(f"within ±{e.margin:g} of {e.null:g}" for e in near if e.null)
        return " and ".join([*([f"no effect beyond {none}"] if none else []), *bounds])
    return verdict


def sentence(verdict: str, effects: Sequence[Effect], seeds: Sequence[int]) -> str:
    """The verdict as a predicate: `holds`, `shows no effect beyond ±0.02`, `is undecided with 4 seeds`."""
    said = worded(verdict, effects, seeds)
    verbs = {"undecided": "is ", "no effect": "shows ", "within ±": "lies "}
    return next((verb for start, verb in verbs.items() if said.startswith(start)), "") + said
