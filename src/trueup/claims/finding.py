"""What a claim's file is made of: numbers of its trials by seed, effects with a verdict, and a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from markupsafe import Markup

from trueup.claims.experiment import Floats, Trial
from trueup.reports import figures
from trueup.statistics.estimates import mean_ci

Trials = Sequence[Trial]
"One for each seed."
Verdict = Literal["holds", "does not hold here", "undecided"]


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

    @property
    def verdict(self) -> Verdict:
        """`holds` where the whole interval is wanted, `does not hold here` where none of it is."""
        low, high = self.interval or (self.value, self.value)
        least = -math.inf if self.wanted[0] is None else self.wanted[0]
        most = math.inf if self.wanted[1] is None else self.wanted[1]
        if least <= low and high <= most:
            return "holds"
        overlaps = low <= most and high >= least
        return "undecided" if overlaps else "does not hold here"


def over_seeds(
    name: str, values: Sequence[float] | Floats, wanted: tuple[float | None, float | None], unit: str = ""
) -> Effect:
    """The mean over seeds with its 95 % t interval, m ± t_{n−1} s/√n; two values at least, one a seed."""
    found = mean_ci(np.asarray(values, np.float64))
    return Effect(
        name=name,
        value=found.mean,
        interval=(found.low, found.high),
        wanted=wanted,
        unit=unit,
        by_seed=tuple(float(v) for v in values),
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
        """`does not hold here` where any effect does not, else `undecided` where any is, else `holds`."""
        found = {effect.verdict for effect in self.effects}
        if "does not hold here" in found:
            return "does not hold here"
        return "undecided" if "undecided" in found or not found else "holds"
