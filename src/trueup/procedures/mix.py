"""One mixture of some experts by weights that are given: the stage for what `trueup soup --weights` does.

    θ = Σ_i w_i θ_i          all w_i = 1 / N where none are given

(Wortsman et al. 2022.) The stage `soup` looks for the weights instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trueup.runs import meter as metering
from trueup.runs.recipe import Done
from trueup.soups.measure import experts_of
from trueup.soups.mix import card_of, open_soup
from trueup.soups.simplex import check, uniform
from trueup.soups.write import keep_mixture

SUMMARY = "Average the weights of several models that were trained from one start."
OUTPUT = "model"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Experts and their weights."""

    experts: Mapping[str, str] = field(default_factory=dict)
    "The models to mix, by name: `{first: stage:first, second: stage:second}`."
    weights: tuple[float, ...] = ()
    "One for each, in their order, with sum 1; all alike when empty."
    seed: int = 0


def run(config: Config, folder: Path, *, stop_requested: Callable[[], str]) -> Done:
    """`model/`, the mixture; E736 for weights off the simplex, E850 and E851 for experts that do not mix."""
    names, models = experts_of(config.experts)
    weights = check(config.weights or uniform(len(models)), len(models))
    soup = open_soup(models)
    if not (folder / OUTPUT).is_dir():
        keep_mixture(soup, weights, folder / OUTPUT, card_of(soup, weights, name="mix", names=names))
    cost = metering.Meter(folder).spend(0, tokens_trained=0, tokens_sampled=0)
    return Done(output=OUTPUT, cost=vars(cost))
