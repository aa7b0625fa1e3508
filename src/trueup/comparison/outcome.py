"""What a comparison found: each method's gain over the start with its interval, distance and cost."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trueup.runs.done import read_done
from trueup.runs.recipe import Stage
from trueup.statistics.estimates import Estimate, kl_estimate, mean_ci, paired_gain

Floats = NDArray[np.float64]
PARTS = ("helpful", "honest", "harmless", "ended")
"Means that stand beside gold where they were measured."


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """One run's numbers by prompt, and what the run cost."""

    numbers: Mapping[str, Floats]
    "[num_prompts, samples_per_prompt] by name: gold, kl, proxy, length ..."
    cost: Mapping[str, float]
    samples: Sequence[tuple[str, str]]
    exams: Mapping[str, Floats] = field(default_factory=dict)
    "One value for each item, by exam, larger is better."

    def mean(self, name: str) -> float | None:
        """The mean of a number over prompts and samples; None where it was not measured."""
        return float(self.numbers[name].mean()) if name in self.numbers else None


@dataclass(frozen=True, kw_only=True, eq=False)
class Row:
    """One method: its chosen setting, its gain over the start, and what it cost."""

    method: str
    chosen: str
    candidates: Mapping[str, float | None]
    "Mean gold on the development prompts of every setting tried; None where the run failed."
    gold: float
    gain: Estimate
    "Over seeds: the mean over seeds of the mean paired difference, with its t interval."
    gain_by_seed: tuple[float, ...]
    over_prompts: Estimate
    "The same gain averaged over seeds first, with its interval over prompts."
    gold_over_prompts: Estimate
    proxy: float | None
    kl: float | None
    kl_error: float | None
    "Standard error of the KL over prompts, seeds averaged first."
    scores: Mapping[str, float]
    length: float | None
    tax: Mapping[str, Estimate]
    "By exam: the method minus the start on the same items, seeds averaged first, its interval over items."
    tokens_trained: float
    tokens_sampled: float
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """The row as plain values."""
        return {name: _plain(getattr(self, name)) for name in self.__dataclass_fields__}


def _plain(value: Any) -> Any:
    if isinstance(value, Estimate):
        return value.to_json()
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    return list(value) if isinstance(value, tuple) else value


def read_measured(stages: Sequence[Stage], own: str) -> Measured | None:
    """What a finished run measured; None where it did not finish."""
    by_name = {stage.name: stage for stage in stages}
    if not all(stage.done for stage in stages):
        return None
    found = json.loads((stages[-1].folder / "measured.json").read_text(encoding="utf-8"))
    done = read_done(by_name[own].folder)
    numbers = {name: np.asarray(values, np.float64) for name, values in found["numbers"].items()}
    return Measured(
        numbers=numbers,
        cost=done.cost,
        samples=[tuple(s) for s in found["samples"]],
        exams={name: np.asarray(values, np.float64) for name, values in found.get("exams", {}).items()},
    )


def row(
    method: str,
    chosen: str,
    tried: Mapping[str, float | None],
    runs: Sequence[Measured],
    starts: Sequence[Measured],
) -> Row:
    """One method's row from its runs and the start's, seed by seed on the same prompts."""
    gains = np.stack(
        [
            r.numbers["gold"].mean(1) - s.numbers["gold"].mean(1)
            for r, s in zip(runs, starts, strict=True)
        ]
    )  # fmt: skip

    def over_runs(name: str) -> float | None:
        values = [r.mean(name) for r in runs]
        known = [v for v in values if v is not None]
        return float(np.mean(known)) if len(known) == len(values) else None

    def cost(name: str) -> float:
        return float(np.mean([r.cost.get(name, 0.0) for r in runs]))

    return Row(
        method=method,
        chosen=chosen,
        candidates=tried,
        gold=float(np.mean([r.numbers["gold"].mean() for r in runs])),
        gain=mean_ci(gains.mean(1)),
        gain_by_seed=tuple(float(g) for g in gains.mean(1)),
        over_prompts=mean_ci(gains.mean(0)),
        gold_over_prompts=mean_ci(_by_prompt(runs, "gold")),
        proxy=over_runs("proxy"),
        kl=over_runs("kl"),
        kl_error=_kl_error(runs),
        scores={name: value for name in PARTS if (value := over_runs(name)) is not None},
        length=over_runs("length"),
        tax=_tax(runs, starts),
        tokens_trained=cost("tokens_trained"),
        tokens_sampled=cost("tokens_sampled"),
        seconds=cost("seconds"),
    )


def against_best(rows: Sequence[Row]) -> dict[str, Estimate | None]:
    """For every row but the best: the largest mean gain minus its own, with a t interval over seeds.

    Paired by seed: one seed is one start, one set of comparisons, one reward model. None with one seed.
    """
    best = max(rows, key=lambda r: r.gain.mean)
    others = [r for r in rows if r is not best]
    gaps = {r.method: np.subtract(best.gain_by_seed, r.gain_by_seed) for r in others}
    return {name: mean_ci(gap) if len(gap) > 1 else None for name, gap in gaps.items()}


def side_by_side(runs: Mapping[str, Measured]) -> list[dict[str, Any]]:
    """What each policy said to the same prompts, with its gold reward: one seed's runs, by name.

    A policy that was asked something else is left out.
    """
    first = next(iter(runs.values()))
    asked = [prompt for prompt, _ in first.samples]
    same = {name: run for name, run in runs.items() if [prompt for prompt, _ in run.samples] == asked}
    return [
        {
            "prompt": prompt,
            "replies": {
                name: {"text": run.samples[place][1], "gold": float(run.numbers["gold"][place, 0])}
                for name, run in same.items()
            },
        }
        for place, prompt in enumerate(asked)
    ]


def _tax(runs: Sequence[Measured], starts: Sequence[Measured]) -> dict[str, Estimate]:
    """What the method lost or gained on each exam that every run sat; negative is a loss."""
    sat = [name for name in runs[0].exams if all(name in m.exams for m in (*runs, *starts))]

    def mean(measured: Sequence[Measured], exam: str) -> Floats:
        return np.mean([m.exams[exam] for m in measured], axis=0)

    return {exam: paired_gain(mean(runs, exam), mean(starts, exam)) for exam in sat}


def _by_prompt(runs: Sequence[Measured], name: str) -> Floats:
    return np.mean([r.numbers[name].mean(1) for r in runs], axis=0)


def _kl_error(runs: Sequence[Measured]) -> float | None:
    if not all("kl" in r.numbers for r in runs) or len(runs[0].numbers["kl"]) < 2:
        return None
    return kl_estimate(_by_prompt(runs, "kl")).standard_error


def markdown(rows: Sequence[Row]) -> str:
    """The table, best gain first."""
    head = (
        "| method | chosen | gold | gain over the start, over seeds | over prompts | by seed | KL | length "
        "| trained | sampled | s |"
    )
    lines = [head, "|" + "---|" * 11]
    for r in sorted(rows, key=lambda r: -r.gain.mean):
        by_seed = " ".join(f"{g:+.3f}" for g in r.gain_by_seed)
        kl = "" if r.kl is None else f"{r.kl:.2f}"
        length = "" if r.length is None else f"{r.length:.0f}"
        lines.append(
            f"| {r.method} | {r.chosen} | {r.gold:.3f} | {_interval(r.gain)} | {_interval(r.over_prompts)} "
            f"| {by_seed} | {kl} | {length} | {r.tokens_trained / 1e3:.0f}k "
            f"| {r.tokens_sampled / 1e3:.0f}k | {r.seconds:.0f} |"
        )
    return "\n".join(lines) + "\n"


def _interval(e: Estimate) -> str:
    if math.isnan(e.low):
        return f"{e.mean:+.3f} (no interval)"
    return f"{e.mean:+.3f} [{e.low:+.3f}, {e.high:+.3f}]"
