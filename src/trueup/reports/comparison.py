"""A comparison's folder in, one self-contained HTML file out: which method gains what, at which cost.

Everything comes from `comparison.json`. A part that an older file does not hold is named as missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from trueup.errors import TrueupError
from trueup.reports import charts, numbers, scatter, svg, verdict, write
from trueup.reports.checked import (
    Interval,
    Json,
    as_array,
    as_costs,
    as_interval,
    as_number,
    as_object,
    load_json,
)
from trueup.reports.headline import label
from trueup.reports.record import Reply, Sample
from trueup.reports.verdict import Compared, MethodResult

RESULT = "comparison.json"
PAGE = "comparison.html"
MOST_SPEAKERS = 12
"Policies whose completions are shown side by side: the start and the largest gains."
_SLOTS = {
    "": 8,
    "supervised": 2,
    "inference": 3,
    "reward models": 1,
    "contrastive": 4,
    "reinforcement": 5,
    "distillation": 7,
    "procedures": 9,
}
"A colour and shape for every family; 0 is the start."


@dataclass(frozen=True, slots=True)
class Tried:
    """One setting of a sweep, with its gold reward on the development prompts; None where the run failed."""

    setting: str
    gold: float | None
    chosen: bool


def write_comparison(folder: Path, out: Path | None = None) -> Path:
    """The path of the page written of a comparison: `out`, or `comparison.html` in its folder.

    Raises TrueupError if there is no comparison, or its file cannot be read. The page appears whole or not.
    """
    return write.write_page(render(load(folder)), out if out is not None else folder / PAGE)


def load(folder: Path) -> Json:
    """What `comparison.json` holds. Raises E801 where there is none."""
    found = load_json(folder / RESULT)
    if found is None:
        raise TrueupError(
            "E801", f"no {RESULT}", where=str(folder), remedy="`trueup compare` writes it when it ends"
        )
    return as_object(found, RESULT)


def parse(record: Json) -> Compared:
    """The comparison's numbers, methods by gain, largest first."""
    start = as_object(record.get("start"), f"{RESULT} start")
    settings = as_object(record.get("comparison"), f"{RESULT} comparison")
    golds = [g for g in map(_gold, as_array(start.get("gold_by_seed"), f"{RESULT} start")) if g is not None]
    rows = [_method(row) for row in as_array(record.get("methods"), f"{RESULT} methods")]
    return Compared(
        name=str(settings.get("name", "")),
        start=str(start.get("method", "the start")),
        start_gold=sum(golds) / len(golds) if golds else None,
        start_length=as_number(start.get("length"), f"{RESULT} start.length"),
        budget=as_number(settings.get("budget"), f"{RESULT} budget"),
        num_seeds=len(as_array(settings.get("seeds"), f"{RESULT} seeds")),
        num_prompts=_whole(record.get("num_prompts")),
        methods=tuple(sorted(rows, key=lambda row: -row.gain.mean)),
        failed={str(k): str(v) for k, v in as_object(record.get("failed"), f"{RESULT} failed").items()},
    )


def render(record: Json) -> str:
    """The report as one HTML page."""
    compared = parse(record)
    samples = _samples(record)
    speakers = _speakers(compared, samples)
    slot_of = {compared.start: 0} | {m.name: _SLOTS.get(m.family, 8) for m in compared.methods}
    families = list(dict.fromkeys(m.family for m in compared.methods if m.family))
    chosen, kinds = write.choose_samples(samples)
    settings = as_object(record.get("comparison"), f"{RESULT} comparison")
    shared = as_object(settings.get("shared"), f"{RESULT} shared")
    return write.template("comparison.html.j2").render(
        c=compared,
        style=write.style(),
        headline=verdict.headline(compared),
        details=verdict.details(compared),
        front=verdict.front(compared),
        front_sentence=verdict.front_sentence(compared),
        between=numbers.between,
        scientific=numbers.scientific,
        families=[(family, svg.swatch(_SLOTS.get(family, 8))) for family in families],
        swatches={name: svg.swatch(slot) for name, slot in slot_of.items()},
        tried={m.name: _tried(row, m) for row, m in _rows(record, compared)},
        start_tried=_tried(as_object(record.get("start"), RESULT), None),
        settings=[(name, stage) for name, stage in [*shared.items(), *_given(settings).items()]],
        flat=_flat,
        exams=list(dict.fromkeys(exam for m in compared.methods for exam in m.tax)),
        tax_cells=_tax_cells(compared),
        samples=chosen,
        all_samples=len(samples),
        kinds=kinds,
        speakers=speakers,
        first_speakers=speakers[:4],
        **_drawings(compared, slot_of),
    )


def _drawings(compared: Compared, slot_of: Mapping[str, int]) -> dict[str, Markup | None]:
    drawn: dict[str, Markup | None] = {}
    named = {m.name for m in verdict.front(compared)} | {m.name for m in compared.methods[:1]}
    for key, pick in (("seeds", lambda m: m.gain), ("prompts", lambda m: m.gain_over_prompts)):
        rows = [charts.Row(m.name, slot_of[m.name], pick(m)) for m in compared.methods]
        drawn[f"gain_over_{key}"] = (
            charts.interval_chart(
                rows,
                reference=0.0,
                write=lambda value: numbers.plain(value, signed=True),
                axis=numbers.tick,
                description=_said(compared, pick),
            )
            if any(row.value for row in rows)
            else None
        )
    start = scatter.Spot(compared.start, 0, 0.0, Interval(compared.start_gold or 0.0), 0.0)
    gold = [
        scatter.Spot(m.name, slot_of[m.name], m.distance, m.gold, m.distance_error) for m in compared.methods
    ]
    proxy = [
        scatter.Spot(m.name, slot_of[m.name], m.distance, Interval(m.proxy), m.distance_error)
        for m in compared.methods
        if m.proxy is not None
    ]
    cost = [
        scatter.Spot(m.name, slot_of[m.name], m.cost.get("seconds"), m.gain, None) for m in compared.methods
    ]
    known = [start] if compared.start_gold is not None else []
    for key, spots, unit in (
        ("gold", [*known, *gold], "nats"),
        ("proxy", proxy, "nats"),
        ("cost", cost, "s"),
    ):
        usable = [spot for spot in spots if spot.x is not None]
        drawn[f"{key}_chart"] = (
            scatter.scatter(usable, named={*named, compared.start}, description=f"{key} by method", unit=unit)
            if len(usable) > len(known) * (key == "gold")
            else None
        )
    return drawn


def _tax_cells(compared: Compared) -> dict[str, dict[str, Markup]]:
    """A small drawing for every method and exam, all on one scale."""
    scale = charts.tax_scale(m.tax for m in compared.methods)
    return {
        m.name: {exam: charts.interval_cell(v, scale) for exam, v in m.tax.items()} for m in compared.methods
    }


def _method(row: Any) -> MethodResult:
    row = as_object(row, f"{RESULT} methods")
    name = str(row.get("method", ""))
    where = f"{RESULT} methods.{name}"
    over_prompts = as_interval(row.get("over_prompts"), f"{where}.over_prompts")
    gain = as_interval(row.get("gain"), f"{where}.gain")
    if gain is None:
        raise TrueupError("E202", "needs method and gain", where=where)
    gold = as_interval(row.get("gold_over_prompts"), f"{where}.gold") or as_interval(row.get("gold"), where)
    scores = as_object(row.get("scores"), f"{where}.scores")
    tax = as_object(row.get("tax"), f"{where}.tax")
    return MethodResult(
        name=name,
        family=str(row.get("family", "")),
        chosen=str(row.get("chosen", "")),
        gold=gold,
        gain=gain,
        gain_over_prompts=over_prompts,
        behind_best=as_interval(row.get("behind_best"), f"{where}.behind_best"),
        proxy=as_number(row.get("proxy"), f"{where}.proxy"),
        kl=as_number(row.get("kl"), f"{where}.kl"),
        kl_error=as_number(row.get("kl_error"), f"{where}.kl_error"),
        length=as_number(row.get("length"), f"{where}.length"),
        scores={k: v for k in scores if (v := as_number(scores[k], f"{where}.scores.{k}")) is not None},
        tax={exam: kept for exam in tax if (kept := as_interval(tax[exam], f"{where}.tax")) is not None},
        cost=as_costs(row, where),
    )


def _samples(record: Json) -> list[Sample]:
    found = []
    for place, row in enumerate(as_array(record.get("samples"), f"{RESULT} samples")):
        where = f"{RESULT} samples [{place}]"
        row = as_object(row, where)
        replies = as_object(row.get("replies"), where)
        said = {name: as_object(reply, where) for name, reply in replies.items()}
        found.append(
            Sample(
                prompt=(("user", str(row.get("prompt", ""))),),
                kind="",
                replies={
                    name: Reply(text=str(r.get("text", "")), gold=as_number(r.get("gold"), where), reasons=())
                    for name, r in said.items()
                },
            )
        )
    return found


def _speakers(compared: Compared, samples: Sequence[Sample]) -> list[str]:
    """The start and the methods of the largest gains, as many as the page can switch on and off."""
    known = {name for sample in samples for name in sample.replies}
    order = [compared.start, *(m.name for m in compared.methods)]
    return [name for name in order if name in known][:MOST_SPEAKERS]


def _rows(record: Json, compared: Compared) -> list[tuple[Json, MethodResult]]:
    by_name = {str(row.get("method", "")): row for row in as_array(record.get("methods"), RESULT)}
    return [(by_name[m.name], m) for m in compared.methods]


def _tried(row: Json, method: MethodResult | None) -> list[Tried]:
    chosen = method.chosen if method is not None else str(row.get("chosen", ""))
    scores = as_object(row.get("candidates"), f"{RESULT} candidates")
    return [
        Tried(label, as_number(score, f"{RESULT} candidates.{label}"), label == chosen)
        for label, score in scores.items()
        if label
    ]


def _given(settings: Json) -> Json:
    return as_object(settings.get("methods"), f"{RESULT} comparison.methods")


def _flat(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        return [pair for k, v in value.items() for pair in _flat(v, f"{prefix}.{k}" if prefix else str(k))]
    return [(prefix, str(value))]


def _gold(value: Any) -> float | None:
    return as_number(value, f"{RESULT} start.gold_by_seed")


def _whole(value: Any) -> int | None:
    number = as_number(value, f"{RESULT} num_prompts")
    return None if number is None else int(number)


def _said(compared: Compared, pick: Callable[[MethodResult], Interval | None]) -> str:
    """What a chart of gains shows, for those who cannot see it."""
    found = [(m.name, pick(m)) for m in compared.methods]
    parts = [
        f"{label(name)} {numbers.plain(value.mean, signed=True)}"
        for name, value in found
        if value is not None
    ]
    return f"Gain over {label(compared.start)} by method: {'; '.join(parts)}"
