"""Rewarded soups of some experts: measured along the simplex, beside MORL, one chosen and handed on.

On test prompts every mixture of a grid, every MORL policy and the start are measured under every judge; on
validation prompts the weights are chosen for one preference μ, as argmax Σ_k μ_k R_k (Ramé et al. 2023).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, final

import numpy as np
from annotated_types import Ge

from trueup.engine import disk
from trueup.engine.method import Role
from trueup.engine.order import derive
from trueup.errors import TrueupError
from trueup.judges.open import open_judge
from trueup.models.export import Figure
from trueup.models.forward import LanguageModel
from trueup.models.opening import open_chat, open_network, pick_device
from trueup.runs import meter as metering
from trueup.runs.recipe import Done
from trueup.runs.signals import Interrupted
from trueup.settings import config as configuration
from trueup.settings.blocks import DataSettings, ModelSettings
from trueup.settings.schema import Word
from trueup.soups import search, simplex
from trueup.soups.fronts import Kind, Measured, account
from trueup.soups.measure import Bench, experts_of
from trueup.soups.mix import Soup, card_of, open_soup
from trueup.soups.picture import page, write_picture
from trueup.soups.simplex import Weights
from trueup.soups.write import keep_mixture
from trueup.sources.open import open_groups
from trueup.sources.sample import Decoding
from trueup.statistics.estimates import mean_ci

SUMMARY = "Mix experts of several rewards, measure the mixtures beside MORL, and hand on the best."
OUTPUT, KEEPS = "model", "measured.json"
FRONT = "front.json"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Rewarded soups: experts, judges, what they are compared with, and how one mixture is chosen."""

    experts: Mapping[str, str] = field(default_factory=dict)
    "The models to mix, by name: `{helpful: stage:helpful, short: stage:short}`."
    start: str = ""
    "The model that all were trained from; measured too, and KL is from it, where sampling is plain."
    judges: Mapping[str, str] = field(default_factory=dict)
    "The rewards by name; on one scale where a preference is to mean anything: `stage:scales?helpful=1`."
    morl: Mapping[str, str] = field(default_factory=dict)
    "Policies trained on weighted sums of the rewards, to compare with."
    steps: Annotated[int, Ge(1)] = 4
    "Weights on the test prompts are multiples of 1/steps: 4 gives 5 mixtures of two experts."
    preference: tuple[float, ...] = ()
    "How much each reward is worth to the user; alike where nothing is said."
    search: Literal["grid", "dirichlet", "bayes"] = "grid"
    "How weights are looked for on the validation prompts."
    tries: Annotated[int, Ge(1)] = 11
    "Mixtures measured in that search; a grid takes the coarsest with as many points."
    data: DataSettings = DataSettings(path="world:prompts", split="test", limit=200, held_out=0.0)
    validation: DataSettings = DataSettings(path="world:prompts", split="dev", limit=200, held_out=0.0)
    samples_per_prompt: Annotated[int, Ge(1)] = 1
    decoding: Decoding = Decoding()
    device: Word = "auto"
    seed: int = 0


def run(config: Config, folder: Path, *, stop_requested: Callable[[], str]) -> Done:
    """`model/`, `front.json`, `front.svg` and `soups.html`; what was measured is kept as it goes."""
    names, models = experts_of(config.experts)
    if not config.judges:
        raise TrueupError("E736", "no judges", where="judges", remedy="name the rewards")
    preference = simplex.check(config.preference or simplex.uniform(len(config.judges)), len(config.judges))
    meter = metering.Meter(folder)
    soup = open_soup(models, start=config.start, device=str(pick_device(config.device)))
    kitchen = Kitchen(config, folder, soup, stop_requested)
    policies = kitchen.test()
    best, tried = kitchen.choose(preference)
    chosen = kitchen.measure("soup", label(names, best), lambda: soup.at(best), "test", best)
    rewards = {k: mean_ci(chosen.rewards[:, i]) for i, k in enumerate(config.judges)}
    found = account(policies, list(config.judges), seed=derive(config.seed, "bootstrap"))
    found["experts"] = names
    found["chosen"] = {
        "weights": list(best),
        "preference": list(preference),
        "search": config.search,
        "rewards": {k: v.to_json() for k, v in rewards.items()},
        "tried": [{"weights": list(w), "value": v} for w, v in tried.items()],
    }
    disk.write(folder / FRONT, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    write_picture(folder / "front.svg", found)
    disk.write(folder / "soups.html", page(found))
    if not (folder / OUTPUT).is_dir():
        figures = {k: Figure(mean=v.mean, low=v.low, high=v.high) for k, v in rewards.items()}
        card = card_of(soup, best, name="soup", names=names, measured=figures)
        keep_mixture(soup, best, folder / OUTPUT, card)
    metrics = {f"weight/{n}": w for n, w in zip(names, best, strict=True)}
    metrics |= {f"hypervolume/{n}": v["mean"] for n, v in found["hypervolume"].items()}
    if found["connectivity"]:
        metrics["slack"] = found["connectivity"]["slack"]["mean"]
    cost = meter.spend(0, tokens_trained=0, tokens_sampled=kitchen.tokens)
    return Done(output=OUTPUT, publish=(FRONT, "front.svg", "soups.html"), metrics=metrics, cost=vars(cost))


def label(names: list[str], weights: Weights) -> str:
    """A mixture's name: `0.25 helpful + 0.75 short`; an expert alone is named as it is."""
    kept = [(w, n) for w, n in zip(weights, names, strict=True) if w]
    return kept[0][1] if len(kept) == 1 else " + ".join(f"{w:.3g} {n}" for w, n in kept)


@final
class Kitchen:
    """Measures policies once each: a stage that was stopped goes on with what it has in `measured.json`."""

    def __init__(self, config: Config, folder: Path, soup: Soup, stop_requested: Callable[[], str]) -> None:
        self._config, self._soup, self._stop_requested = config, soup, stop_requested
        self._path = folder / KEEPS
        # What other settings measured in this folder says nothing of these.
        self._settings = configuration.digest(configuration.resolved(config))
        kept = json.loads(self._path.read_text(encoding="utf-8")) if self._path.is_file() else {}
        self._rows: dict[str, dict[str, Any]] = kept.get(self._settings, {})
        self._names = list(config.experts)
        self._benches: dict[str, Bench] = {}

    @property
    def tokens(self) -> int:
        """Tokens sampled for all that was measured."""
        return sum(row["tokens"] for row in self._rows.values())

    def test(self) -> list[Measured]:
        """The start, the mixtures of the grid and the MORL policies on the test prompts."""
        c = self._config
        grid = simplex.lattice(len(c.experts), c.steps)
        policies: list[Measured] = []
        if c.start:
            policies.append(self.measure("start", "start", lambda: self._open(c.start), "test"))
        with metering.progress(len(grid) + len(c.morl), "soup") as advance:
            for weights in grid:
                name = label(self._names, weights)
                policies.append(
                    self.measure("soup", name, lambda w=weights: self._soup.at(w), "test", weights)
                )
                advance(1, name)
            for name, model in c.morl.items():
                policies.append(self.measure("morl", name, lambda m=model: self._open(m), "test"))
                advance(1, name)
        return policies

    def choose(self, preference: Weights) -> tuple[Weights, dict[Weights, float]]:
        """The weights of highest Σ_k μ_k R_k on the validation prompts, and all that were tried."""
        c, num = self._config, len(self._names)
        tried: dict[Weights, float] = {}

        def value(weights: Weights) -> float:
            name = label(self._names, weights)
            found = self.measure("soup", name, lambda: self._soup.at(weights), "validation", weights)
            tried[weights] = float(found.means @ np.array(preference))
            return tried[weights]

        if c.search == "bayes":
            search.bayesian(value, num, c.tries, seed=derive(c.seed, "search"))
        else:
            drawn = search.grid_points(num, c.tries) if c.search == "grid" else ()
            for weights in drawn or simplex.dirichlet(num, c.tries, derive(c.seed, "search")):
                value(weights)
        return max(tried, key=lambda weights: tried[weights]), tried

    def measure(
        self,
        kind: Kind,
        name: str,
        network: Callable[[], LanguageModel],
        on: Literal["test", "validation"],
        weights: Weights = (),
    ) -> Measured:
        """A policy's rewards on the test or the validation prompts, measured unless they were before."""
        key = f"{on} {kind} {list(weights) or name}"
        if key not in self._rows:
            if self._stop_requested():
                raise Interrupted(len(self._rows), self._stop_requested())
            found = self._bench(on)(network(), name)
            self._rows[key] = {**vars(found), "rewards": found.rewards.tolist()}
            disk.write(self._path, json.dumps({self._settings: self._rows}) + "\n")
        row = self._rows[key]
        return Measured(
            name=name,
            kind=kind,
            rewards=np.array(row["rewards"]),
            weights=weights,
            kl=row["kl"],
            length=row["length"],
        )

    def _bench(self, on: Literal["test", "validation"]) -> Bench:
        if on not in self._benches:
            c = self._config
            device = str(pick_device(c.device))
            chat = open_chat(ModelSettings(path=self._soup.experts[0]))
            data = c.data if on == "test" else c.validation
            d = c.decoding
            plain = not (d.greedy or d.top_k or d.top_p or d.temperature != 1)
            self._benches[on] = Bench(
                prompts=open_groups(data, chat, seed=c.seed).train,
                judges={name: open_judge(ref, device=device) for name, ref in c.judges.items()},
                chat=chat,
                decoding=c.decoding,
                samples_per_prompt=c.samples_per_prompt,
                seed=derive(c.seed, on),
                reference=self._open(c.start) if c.start and plain and on == "test" else None,
            )
        return self._benches[on]

    def _open(self, model: str) -> LanguageModel:
        settings = ModelSettings(path=model)
        return open_network(Role(trained=False), settings, pick_device(self._config.device), seed=0)
