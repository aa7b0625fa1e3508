"""A run directory in, one self-contained HTML file out.

The page holds no script and names no address: its policy refuses everything but its own styles. All text of
the run goes through `visible` and Jinja's escaping; drawings are built as element trees.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template
from markupsafe import Markup

from trueup.reports import charts, headline, numbers, svg
from trueup.reports.record import Interval, PolicyResult, RunRecord, Sample, read_run
from trueup.reports.stages import Points
from trueup.reports.visible import visible

MEASURED = ("gold", "proxy", "helpful", "honest", "harmless", "evasive", "toxic", "kl")
MOST_SAMPLES = 24
MOST_KINDS = 12
MOST_CHARACTERS = 3000
MOST_CURVES = 12
_FIRST_METRICS = ("loss", "gold", "score", "reward", "kl", "accuracy", "margin", "entropy", "value", "clip")


@dataclass(frozen=True, slots=True)
class Curve:
    """A drawn learning curve."""

    name: str
    drawing: Markup


@dataclass(frozen=True, slots=True)
class StageCurves:
    """The drawn curves of one stage and the names of those left to its metrics file."""

    stage: str
    drawn: Sequence[Curve]
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
    names = list(dict.fromkeys([*(p.name for p in run.policies), *(p.policy for p in run.frontier)]))
    speakers = list(dict.fromkeys(name for sample in run.samples for name in sample.replies))
    slot_of = charts.slots(list(dict.fromkeys([*names, *speakers])))
    samples, kinds = choose_samples(run.samples)
    return template("report.html.j2").render(
        run=run,
        frontier=charts.evenly(run.frontier),
        style=style(),
        slot_of=slot_of,
        swatches={name: svg.swatch(slot) for name, slot in slot_of.items()},
        headline=headline.trained(run.curves) if run.training_only else headline.headline(run.policies),
        details=headline.details(run.policies, run.frontier),
        between=numbers.between,
        gains_over=list(dict.fromkeys(p.gain_over for p in run.policies if p.gain)),
        samples=samples,
        kinds=kinds,
        speakers=speakers,
        first_speakers=_first_speakers(speakers),
        stages=[
            _stage_curves(stage, series, place) for place, (stage, series) in enumerate(run.curves.items())
        ],
        costs=_cost_rows(run),
        measured_names=[n for n in MEASURED if any(n in found for found in run.measured.values())],
        held_out_metrics=list(dict.fromkeys(name for found in run.held_out.values() for name in found)),
        found_names={
            procedure: list(dict.fromkeys(name for found in stages.values() for name in found))
            for procedure, stages in run.found.items()
        },
        exams=list(dict.fromkeys(exam for p in run.policies for exam in p.tax)),
        is_interval=lambda value: isinstance(value, Interval),
        **_drawings(run, slot_of),
    )


@cache
def template(name: str) -> Template:
    """A page of this folder, with the filters that write numbers and text."""
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        loader=FunctionLoader(lambda file: (resources.files("trueup.reports") / file).read_text("utf-8")),
    )
    environment.filters.update(
        plain=numbers.plain,
        tally=numbers.tally,
        percent=numbers.percent,
        nats=numbers.nats,
        count=numbers.count,
        duration=numbers.duration,
        memory=numbers.memory,
        label=headline.label,
        cut=_cut,
        preview=_preview,
    )
    return environment.get_template(name)


def style() -> Markup:
    """The style sheet. It is ours: the one string that is put in unescaped."""
    return Markup((resources.files("trueup.reports") / "report.css").read_text("utf-8"))


def write_page(page: str, target: Path) -> Path:
    """The path of the page, which appears whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    partial.write_text(page, encoding="utf-8", newline="\n")
    os.replace(partial, target)
    return target


def choose_samples(samples: Sequence[Sample]) -> tuple[list[Sample], list[Kind]]:
    """At most `MOST_SAMPLES` dialogues, the first of every kind, then the second ..., grouped by kind."""
    by_kind: dict[str, list[Sample]] = {}
    for sample in samples:
        by_kind.setdefault(sample.kind, []).append(sample)
    shown = dict.fromkeys(by_kind, 0)
    room = min(MOST_SAMPLES, len(samples))
    while room:
        for kind, held in by_kind.items():
            if room and shown[kind] < len(held):
                shown[kind] += 1
                room -= 1
    chosen = [sample for kind, held in by_kind.items() for sample in held[: shown[kind]]]
    return chosen, [Kind(kind, number) for kind, number in shown.items() if number]


def _drawings(run: RunRecord, slot_of: dict[str, int]) -> dict[str, Any]:
    base = _reference(run.policies)
    drawn: dict[str, Any] = {"gold_chart": None, "win_chart": None, "reference": base.name if base else None}
    if any(p.gold for p in run.policies):
        drawn["gold_chart"] = charts.interval_chart(
            [charts.Row(p.name, slot_of[p.name], p.gold) for p in run.policies],
            reference=base.gold.mean if base and base.gold else None,
            write=numbers.plain,
            axis=numbers.tick,
            description=_said("Mean gold reward", [(p, p.gold) for p in run.policies], numbers.plain),
        )
    if any(p.win_rate for p in run.policies):
        drawn["win_chart"] = charts.interval_chart(
            [charts.Row(p.name, slot_of[p.name], p.win_rate) for p in run.policies],
            reference=0.5,
            write=_whole_percent,
            axis=_whole_percent,
            description=_said("Win rate", [(p, p.win_rate) for p in run.policies], _whole_percent),
        )
    for which in ("gold", "proxy"):
        held = [p for p in charts.evenly(run.frontier) if getattr(p, which) is not None]
        drawn[f"{which}_frontier"] = (
            charts.frontier_chart(
                held, slot_of, which=which, description=f"{which} reward against the square root of KL"
            )
            if held
            else None
        )
    scale = charts.tax_scale(p.tax for p in run.policies)
    drawn["tax_cells"] = {
        p.name: {exam: charts.interval_cell(value, scale) for exam, value in p.tax.items()}
        for p in run.policies
    }
    return drawn


def _said(
    what: str, held: Sequence[tuple[PolicyResult, Interval | None]], write: Callable[[float], str]
) -> str:
    """What a chart shows, for those who cannot see it."""
    parts = [f"{headline.label(p.name)} {write(value.mean)}" for p, value in held if value is not None]
    return f"{what} by policy: {'; '.join(parts)}"


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
        caption = f"{name} ({lost} values not finite)" if lost else name
        said = f"{name} over the steps of {stage}"
        drawn.append(Curve(caption, charts.curve_chart(finite[name], description=said, slot=slot)))
    return StageCurves(stage, drawn, [*order[MOST_CURVES:], *(n for n in curves if n not in order)])


def _importance(name: str) -> tuple[int, str]:
    found = [place for place, word in enumerate(_FIRST_METRICS) if word in name.lower()]
    return (found[0] if found else len(_FIRST_METRICS), name)


def _cost_rows(run: RunRecord) -> list[tuple[str, dict[str, float]]]:
    rows = [(headline.label(p.name), dict(p.cost)) for p in run.policies if p.cost]
    return rows + [(f"stage {name}", dict(cost)) for name, cost in run.costs.items() if cost]


def _first_speakers(speakers: Sequence[str]) -> list[str]:
    """The columns shown before anyone clicks: the last four, which are the trained ones."""
    return list(speakers[-4:])


def _whole_percent(value: float) -> str:
    return f"{100 * value:.0f}\u202f%"


def _cut(text: str) -> str:
    over = len(text) - MOST_CHARACTERS
    return text if over <= 0 else f"{text[:MOST_CHARACTERS]} … ({over} more characters)"


def _preview(sample: Sample) -> str:
    """The last thing said to the policies, on one line."""
    line = " ".join(sample.prompt[-1][1].split()) if sample.prompt else "(no prompt)"
    return line if len(line) <= 110 else line[:109] + "…"


def _finalize(value: Any) -> Any:
    if isinstance(value, str) and not isinstance(value, Markup):
        return visible(value)
    return "–" if value is None else value
