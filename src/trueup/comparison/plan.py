"""A comparison as a value: which recipes it comes to, in which order, and how settings are chosen.

Every run is an ordinary recipe over one folder of stages, so what two runs share is trained once, what is
done is skipped, and what was interrupted goes on. Settings are chosen on development prompts at a seed of
their own; the reported seeds and the test prompts take no part in the choice.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trueup.errors import TrueupError
from trueup.runs.recipe import Recipe
from trueup.runs.references import stage_inputs
from trueup.settings import config as configuration
from trueup.settings.names import as_name, check_name
from trueup.settings.stages import typed_stages
from trueup.worlds import open_world

MEASURED = "measured"
"The stage that ends every run: the policy's numbers on held-out prompts."


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What a comparison's file says."""

    name: str
    shared: Mapping[str, Mapping[str, Any]]
    "Stages that methods may name with `stage:NAME`; run once for each seed."
    methods: Mapping[str, Mapping[str, Any]]
    "Stages by a name to show; `sweep: {key.path: [values]}` to choose from, `measure: {...}` for the policy."
    world: str = ""
    "Where doors lead, and what is measured on: a name or a YAML file; empty is where the data come from."
    start: str = "sft"
    "The shared stage that every method starts from and is measured against."
    seeds: tuple[int, ...] = (1, 2, 3)
    "Reported."
    sweep_seed: int = 0
    "The seed at which settings are chosen; never reported."
    budget: float | None = None
    "FLOPs that each run may spend on trained and sampled tokens; see `loop.budget`."
    proxy: str = ""
    "The judge whose score is shown beside the gold reward: `stage:reward`."
    choose: Mapping[str, Any] = field(default_factory=lambda: {"split": "dev", "num_prompts": 200})
    "How candidates are measured while settings are chosen."
    report: Mapping[str, Any] = field(default_factory=lambda: {"split": "test", "num_prompts": 500})
    "How the chosen settings are measured."


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One setting of one method."""

    method: str
    label: str
    "What the sweep changed: `update.lr=0.001`, or empty."
    settings: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run: a recipe whose last stage measures, and what it is for."""

    name: str
    candidate: Candidate
    seed: int
    recipe: Recipe


def read_comparison(path: Path, overrides: Mapping[str, Any] | None = None) -> Comparison:
    """The comparison in a YAML file. Raises E715 where it does not hang together, E762 for no truth."""
    values = configuration.read_yaml(path).values
    over = typed_stages(overrides or {}, "shared", "methods")
    found = configuration.build(Comparison, values, over, where=str(path))
    check_name(found.name, "a comparison", f"{path} name")
    for name in (*found.shared, *found.methods):
        check_name(name, "a stage", f"{path} {name}")
    if found.world:
        open_world(found.world).believed()  # raises where nobody could say which answer is better
    if found.start not in found.shared:
        raise TrueupError(
            "E715",
            f"the start {found.start!r} is not a shared stage",
            where=f"{path} start",
            remedy=f"shared stages are {', '.join(found.shared)}",
        )
    if not found.methods:
        raise TrueupError("E715", "there is no method to compare", where=f"{path} methods", remedy="name one")
    if found.sweep_seed in found.seeds:
        raise TrueupError(
            "E715",
            f"seed {found.sweep_seed} is both chosen at and reported",
            where=f"{path} sweep_seed",
            remedy="use a seed that is not reported",
        )
    return found


def candidates(method: str, given: Mapping[str, Any]) -> list[Candidate]:
    """Every setting that the method's sweep lists, in order; one when it lists none."""
    settings = {key: value for key, value in given.items() if key != "sweep"}
    sweep = given.get("sweep", {})
    found = []
    for values in itertools.product(*sweep.values()):
        changed: Mapping[str, Any] = settings
        for key, value in zip(sweep, values, strict=True):
            changed = _with(changed, key.split("."), value)
        label = " ".join(f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}"
                         for key, value in zip(sweep, values, strict=True))  # fmt: skip
        found.append(Candidate(method=method, label=label, settings=changed))
    return found


def _with(settings: Mapping[str, Any], path: Sequence[str], value: Any) -> dict[str, Any]:
    first, *rest = path
    inner = settings.get(first, {})
    return {**settings, first: _with(inner, rest, value) if rest else value}


def start_jobs(comparison: Comparison) -> list[Job]:
    """The start's own candidates, measured on the development prompts."""
    return [
        _job(comparison, {comparison.start: c.settings}, c, comparison.sweep_seed, final=False)
        for c in candidates(comparison.start, comparison.shared[comparison.start])
    ]


def shared_jobs(comparison: Comparison, start: Candidate) -> list[Job]:
    """The shared stages at every seed, ending with the start's own numbers."""
    stages = shared_stages(comparison, start)
    return [
        _job(comparison, stages, start, seed, final=seed != comparison.sweep_seed)
        for seed in (comparison.sweep_seed, *comparison.seeds)
    ]


def sweep_jobs(comparison: Comparison, start: Candidate) -> list[Job]:
    """Every method's candidates at the sweep's seed."""
    return [
        _method_job(comparison, start, candidate, comparison.sweep_seed, final=False)
        for name, given in comparison.methods.items()
        for candidate in candidates(name, given)
    ]


def final_jobs(comparison: Comparison, start: Candidate, chosen: Mapping[str, Candidate]) -> list[Job]:
    """Every method at its chosen setting and every reported seed, one method after the other."""
    return [
        _method_job(comparison, start, candidate, seed, final=True)
        for candidate in chosen.values()
        for seed in comparison.seeds
    ]


def shared_stages(comparison: Comparison, start: Candidate) -> dict[str, Mapping[str, Any]]:
    """The shared stages with the start at its chosen setting."""
    return {**comparison.shared, comparison.start: start.settings}


def _method_job(comparison: Comparison, start: Candidate, c: Candidate, seed: int, *, final: bool) -> Job:
    settings = dict(c.settings)
    if comparison.budget is not None:
        settings = _with(settings, ("loop", "budget"), comparison.budget)
    stages = {**shared_stages(comparison, start), c.method: {"method": c.method, **settings}}
    return _job(comparison, stages, c, seed, final=final)


def _job(
    comparison: Comparison,
    stages: Mapping[str, Mapping[str, Any]],
    candidate: Candidate,
    seed: int,
    *,
    final: bool,
) -> Job:
    own = candidate.method
    steered = stages[own].get("measure", {})
    measured = {
        "method": "measure",
        "model": f"stage:{own}",
        "reference": "" if own == comparison.start else f"stage:{comparison.start}",
        "proxy": comparison.proxy if own != comparison.start else "",
        **(comparison.report if final else comparison.choose),
        **steered,
    }
    plain = {name: {k: v for k, v in given.items() if k != "measure"} for name, given in stages.items()}
    needed = set(_needed(own, {**plain, MEASURED: measured}))
    kept = {name: given for name, given in plain.items() if name in needed or own == comparison.start}
    label = f"-{candidate.label}" if candidate.label and not final else ""
    name = as_name(f"{own}{label}-seed{seed}".replace(" ", "-").replace("=", "-"))
    return Job(
        name=name,
        candidate=candidate,
        seed=seed,
        recipe=Recipe(name=name, stages={**kept, MEASURED: measured}, seed=seed, world=comparison.world),
    )


def _needed(own: str, stages: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """The stages that the measured policy and its measurement come from, themselves included."""
    waiting = [own, MEASURED]
    seen = set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        yield name
        waiting.extend(n for n in stage_inputs(stages[name]) if n in stages)
