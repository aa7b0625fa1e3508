"""A run directory in, one self-contained HTML file out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from trueup.errors import counted
from trueup.reports import charts, headline, numbers, svg, three_stages
from trueup.reports.page import page, write_page
from trueup.reports.record import PolicyResult, RunRecord, Sample, read_run
from trueup.reports.stages import Points, StageRecord

MEASURED = ("gold", "proxy", "helpful", "honest", "harmless", "evasive", "toxic", "kl")
MOST_SAMPLES = 24
MOST_CURVES = 12
_FIRST_METRICS = ("loss", "gold", "score", "reward", "kl", "accuracy", "margin", "entropy", "value", "clip")


@dataclass(frozen=True, slots=True)
class StageCurves:
    """The drawn curves of one stage by name, and the names of those left to its metrics file."""

    stage: str
    drawn: Sequence[tuple[str, Markup]]
    left_out: Sequence[str]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of sample dialogue and how many of it are shown."""

    name: str
    count: int


def write_report(run_dir: Path, out: Path | None = None) -> Path:
    """The path of the report written of `run_dir`: `out`, or `report.html` in the run directory.

    Raises TrueupError if the directory or a file in it cannot be read. The file appears whole or not at all.
    """
    return write_page(render(read_run(run_dir)), out if out is not None else run_dir / "report.html")


def render(run: RunRecord) -> str:
    """The report as one HTML page."""
    return page("report.html.j2", **shown(run))


def shown(run: RunRecord) -> dict[str, Any]:
    """What the templates show of a run, by the names that they use."""
    names = [*(p.name for p in run.policies), *(p.policy for p in run.frontier)]
    speakers = list(dict.fromkeys(name for sample in run.samples for name in sample.replies))
    slot_of = charts.slots(list(dict.fromkeys([*names, *speakers])))
    samples, kinds = choose_samples(run.samples)
    three = three_stages.columns(run)
    return {
        "run": run,
        "three": three,
        "frontier": charts.evenly(run.frontier),
        "swatches": {name: svg.swatch(slot) for name, slot in slot_of.items()},
        "headline": three_stages.headline(run) if three else _headline(run),
        "details": [*([_headline(run)] if three else []), *headline.details(run.policies, run.frontier)],
        "terms": "" if run.training_only else headline.TERMS,
        "gains_over": _names([p.gain_over] for p in run.policies if p.gain),
        "samples": samples,
        "kinds": kinds,
        "speakers": speakers,
        "first_speakers": speakers[-4:],  # the trained ones
        "stages": [
            _stage_curves(stage.name, stage.curves, place)
            for place, stage in enumerate(stage for stage in run.stages if stage.curves)
        ],
        "costs": [
            *((headline.label(p.name), p.cost) for p in run.policies if p.cost),
            *((f"stage {stage.name}", stage.cost) for stage in run.stages if stage.cost),
        ],
        "measured": [stage for stage in run.stages if stage.measured],
        "measured_names": [n for n in MEASURED if any(n in stage.measured for stage in run.stages)],
        "held_out": [stage for stage in run.stages if stage.held_out],
        "held_out_metrics": _names(stage.held_out for stage in run.stages),
        "found": _found(run.stages),
        "exams": _names(p.tax for p in run.policies),
        "start_exams": _names(p.tax_over_start for p in run.policies),
        **_drawings(run, slot_of),
    }


def _headline(run: RunRecord) -> str:
    return headline.trained(run.stages) if run.training_only else headline.headline(run.policies)


def choose_samples(samples: Sequence[Sample]) -> tuple[list[Sample], list[Kind]]:
    """At most `MOST_SAMPLES` dialogues, the first of every kind, then the second ..., grouped by kind."""
    by_kind: dict[str, list[Sample]] = {}
    for sample in samples:
        by_kind.setdefault(sample.kind, []).append(sample)
    turns = sorted((place, kind) for kind, held in enumerate(by_kind.values()) for place in range(len(held)))
    first = [kind for _, kind in turns[:MOST_SAMPLES]]
    number = {name: first.count(kind) for kind, name in enumerate(by_kind)}
    chosen = [sample for kind, held in by_kind.items() for sample in held[: number[kind]]]
    return chosen, [Kind(kind, shown) for kind, shown in number.items() if shown]


def _found(stages: Sequence[StageRecord]) -> list[tuple[str, list[StageRecord], list[str]]]:
    """Of every procedure that trained nothing its stages, and the names of what they found."""
    made: dict[str, list[StageRecord]] = {}
    for stage in stages:
        if stage.found:
            made.setdefault(stage.procedure, []).append(stage)
    return [(procedure, of_it, _names(s.found for s in of_it)) for procedure, of_it in made.items()]


def _drawings(run: RunRecord, slot_of: Mapping[str, int]) -> dict[str, Any]:
    base = _reference(run.policies)
    frontier = charts.evenly(run.frontier)
    return {
        "reference": base.name if base else None,
        "gold_chart": charts.interval_chart(
            [charts.Row(p.name, slot_of[p.name], p.gold) for p in run.policies],
            reference=base.gold.mean if base and base.gold else None,
            write=numbers.plain,
            axis=numbers.tick,
            description="Mean gold reward by policy",
        ),
        "win_chart": charts.interval_chart(
            [charts.Row(p.name, slot_of[p.name], p.win_rate) for p in run.policies],
            reference=0.5,
            write=_whole_percent,
            axis=_whole_percent,
            description="Win rate by policy",
        ),
        **{
            f"{which}_frontier": charts.frontier_chart(
                frontier, slot_of, which=which, description=f"{which} reward against the square root of KL"
            )
            for which in ("gold", "proxy")
        },
        "tax_cells": charts.tax_cells({p.name: p.tax for p in run.policies}),
        "start_cells": charts.tax_cells({p.name: p.tax_over_start for p in run.policies}),
    }


def _reference(policies: Sequence[PolicyResult]) -> PolicyResult | None:
    """The policy most gains are measured over."""
    over = [p.gain_over for p in policies if p.gain_over]
    common = max(dict.fromkeys(over), key=over.count) if over else ""
    return next((p for p in policies if p.name == common), None)


def _stage_curves(stage: str, curves: Mapping[str, Points], place: int) -> StageCurves:
    finite = {name: [p for p in points if math.isfinite(p[1])] for name, points in curves.items()}
    order = sorted((name for name, points in finite.items() if len(points) > 1), key=_importance)
    slot = charts.slots([stage])[stage] if stage in ("sft", "dpo", "ppo") else 6 + place % 4
    drawn = []
    for name in order[:MOST_CURVES]:
        lost = len(curves[name]) - len(finite[name])
        caption = f"{name} ({counted(lost, 'value')} not finite)" if lost else name
        said = f"{name} over the steps of {stage}"
        drawn.append((caption, charts.curve_chart(finite[name], description=said, slot=slot)))
    return StageCurves(stage, drawn, [*order[MOST_CURVES:], *(n for n in curves if n not in order)])


def _importance(name: str) -> tuple[int, str]:
    found = [place for place, word in enumerate(_FIRST_METRICS) if word in name.lower()]
    return (found[0] if found else len(_FIRST_METRICS), name)


def _names(groups: Iterable[Iterable[str]]) -> list[str]:
    """Every name once, in the order in which they come."""
    return list(dict.fromkeys(name for group in groups for name in group))


def _whole_percent(value: float) -> str:
    return f"{100 * value:.0f}\u202f%"
