"""A comparison's folder in, one self-contained HTML file out: which method gains what, at which cost.

Everything comes from `comparison.json`. A part that an older file does not hold is named as missing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from trueup.errors import TrueupError
from trueup.reports import charts, numbers, svg, verdict, write
from trueup.reports.charts import Spot
from trueup.reports.checked import (
    COST_FIELDS,
    Interval,
    Json,
    as_array,
    as_interval,
    as_intervals,
    as_number,
    as_numbers,
    as_object,
    as_whole,
    load_json,
)
from trueup.reports.differences import marked
from trueup.reports.page import page, write_page
from trueup.reports.record import Sample, flat, parse_sample
from trueup.reports.verdict import Compared, MethodResult

RESULT = "comparison.json"
PAGE = "comparison.html"
_FILE = re.compile(r"\.ya?ml:\w")
"A door of a world in a file."
_PARTS = ("helpful", "honest", "harmless", "ended")
"Scores that stand in the table where they were measured."
MOST_SPEAKERS = 12
"Policies whose completions are shown side by side: the start and the largest gains."
MOST_NAMED = 8
"Methods that all have their names on a plane; of more, the best and those on the front."
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
    return write_page(render(load(folder)), out if out is not None else folder / PAGE)


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
        num_prompts=as_whole(record.get("num_prompts"), f"{RESULT} num_prompts"),
        methods=tuple(sorted(rows, key=lambda row: -row.gain.mean)),
        failed={str(k): str(v) for k, v in as_object(record.get("failed"), f"{RESULT} failed").items()},
        judge=_judge(record, settings),
        by_trainer=tuple(
            map(str, as_array(record.get("measured_by_its_trainer"), f"{RESULT} measured_by_its_trainer"))
        ),
    )


def _judge(record: Json, settings: Json) -> str:
    """The judge that is believed, as the file names it; gold where no world of a file is measured in."""
    named = record.get("truth")
    if named is not None:
        return str(named)
    stages = as_object(settings.get("shared"), f"{RESULT} shared")
    said = [f"{settings.get('world') or ''}:prompts", *(text for _, text in flat(stages))]
    return "" if any(_FILE.search(text) for text in said) else "gold"


def render(record: Json) -> str:
    """The report as one HTML page."""
    return page("comparison.html.j2", **shown(record))


def shown(record: Json) -> dict[str, Any]:
    """What the templates show of a comparison, by the names that they use."""
    c = parse(record)
    samples = _samples(record)
    speakers = _speakers(c, samples)
    slot_of = {c.start: 0} | {m.name: _SLOTS.get(m.family, 8) for m in c.methods}
    families = dict.fromkeys(m.family for m in c.methods if m.family)
    chosen, kinds = write.choose_samples(marked(samples, c.start))
    return {
        "c": c,
        "distance": f"√KL to {c.origin}, √nats",
        "headline": verdict.headline(c),
        "details": verdict.details(c),
        "by_trainer": verdict.trainer_sentence(c),
        "front_sentence": verdict.front_sentence(c),
        "families": [(family, svg.swatch(_SLOTS.get(family, 8))) for family in families],
        "parts": [part for part in _PARTS if any(part in m.scores for m in c.methods)],
        "swatches": {name: svg.swatch(slot) for name, slot in slot_of.items()},
        "tried": _tried(record, c),
        "recipe": _recipe(record),
        "changed": [str(line) for line in as_array(record.get("changed_inputs"), f"{RESULT} changed_inputs")],
        "exams": list(dict.fromkeys(exam for m in c.methods for exam in m.tax)),
        "tax_cells": charts.tax_cells({m.name: m.tax for m in c.methods}),
        "costs": [(m.said, m.cost) for m in c.methods],
        "samples": chosen,
        "all_samples": len(samples),
        "kinds": kinds,
        "speakers": speakers,
        "first_speakers": speakers[:4],
        "marked_against": c.start if c.start in speakers else "",
        **_drawings(c, slot_of),
    }


def _drawings(c: Compared, slot_of: Mapping[str, int]) -> dict[str, Markup | None]:
    def gains(pick: Callable[[MethodResult], Interval | None]) -> Markup | None:
        return charts.interval_chart(
            [charts.Row(m.name, slot_of[m.name], pick(m)) for m in c.methods],
            reference=0.0,
            write=lambda value: numbers.plain(value, signed=True),
            axis=numbers.tick,
            description=f"Gain over {c.origin} by method",
        )

    def plane(which: str, spots: Iterable[Spot], unit: str, start: Sequence[Spot] = ()) -> Markup | None:
        usable = [spot for spot in spots if spot.x is not None and spot.y is not None]
        if not usable:
            return None
        return charts.scatter([*start, *usable], named=named, description=f"{which} by method", unit=unit)

    few = len(c.methods) <= MOST_NAMED
    named = {c.start, *(m.name for m in (c.methods if few else (*c.methods[:1], *verdict.front(c))))}
    gold, proxy, cost = [], [], []
    for m in c.methods:
        slot, error = slot_of[m.name], m.distance_error
        gold.append(Spot(m.name, slot, m.distance, m.gold, error))
        proxy.append(Spot(m.name, slot, m.distance, None if m.proxy is None else Interval(m.proxy), error))
        cost.append(Spot(m.name, slot, m.cost.get("seconds"), m.gain, None))
    start = [] if c.start_gold is None else [Spot(c.start, 0, 0.0, Interval(c.start_gold), None)]
    return {
        "gain_over_seeds": gains(lambda m: m.gain),
        "gain_over_prompts": gains(lambda m: m.gain_over_prompts),
        "gold_chart": plane(c.kept, gold, "nats", start),
        "proxy_chart": plane("proxy", proxy, "nats"),
        "cost_chart": plane("cost", cost, "s"),
    }


def _method(row: Any) -> MethodResult:
    row = as_object(row, f"{RESULT} methods")
    name = str(row.get("method", ""))
    where = f"{RESULT} methods.{name}"
    gain = as_interval(row.get("gain"), f"{where}.gain")
    if gain is None:
        raise TrueupError("E202", "needs method and gain", where=where, remedy="compare again")
    gold = as_interval(row.get("gold_over_prompts"), f"{where}.gold") or as_interval(row.get("gold"), where)
    numbers = as_numbers(row, where, ("proxy", "kl", "kl_error", "length"))
    return MethodResult(
        name=name,
        family=str(row.get("family", "")),
        chosen=str(row.get("chosen", "")),
        gold=gold,
        gain=gain,
        gain_over_prompts=as_interval(row.get("over_prompts"), f"{where}.over_prompts"),
        behind_best=as_interval(row.get("behind_best"), f"{where}.behind_best"),
        proxy=numbers.get("proxy"),
        kl=numbers.get("kl"),
        kl_error=numbers.get("kl_error"),
        length=numbers.get("length"),
        scores=as_numbers(row.get("scores"), f"{where}.scores"),
        tax=as_intervals(row.get("tax"), f"{where}.tax"),
        cost=as_numbers(row, where, COST_FIELDS),
    )


def _samples(record: Json) -> list[Sample]:
    """The samples as a run's file has them: the prompt is one message of a user."""
    found = []
    for place, row in enumerate(as_array(record.get("samples"), f"{RESULT} samples")):
        where = f"{RESULT} samples [{place}]"
        row = as_object(row, where)
        asked = {"role": "user", "content": row.get("prompt", "")}
        found.append(parse_sample({"prompt": [asked], "policies": row.get("replies")}, where))
    return found


def _speakers(compared: Compared, samples: Sequence[Sample]) -> list[str]:
    """The start and the methods of the largest gains, as many as the page can switch on and off."""
    known = {name for sample in samples for name in sample.replies}
    order = [compared.start, *(m.name for m in compared.methods)]
    return [name for name in order if name in known][:MOST_SPEAKERS]


def _tried(record: Json, c: Compared) -> list[tuple[str, list[Tried]]]:
    """The start's sweep where it had one, and every method's: each setting and what it gave."""
    start = as_object(record.get("start"), RESULT)
    rows = {str(row.get("method", "")): row for row in as_array(record.get("methods"), RESULT)}
    found = [(c.start, start), *((m.name, rows[m.name]) for m in c.methods)]
    tried = [(name, _sweep(row)) for name, row in found]
    return [(name, sweep) for name, sweep in tried if sweep or name != c.start]


def _sweep(row: Json) -> list[Tried]:
    chosen = str(row.get("chosen", ""))
    scores = as_object(row.get("candidates"), f"{RESULT} candidates")
    return [
        Tried(setting, as_number(score, f"{RESULT} candidates.{setting}"), setting == chosen)
        for setting, score in scores.items()
        if setting
    ]


def _recipe(record: Json) -> list[tuple[str, list[tuple[str, str]]]]:
    """The settings of every shared stage, then of every method."""
    settings = as_object(record.get("comparison"), f"{RESULT} comparison")
    blocks = [as_object(settings.get(key), f"{RESULT} {key}") for key in ("shared", "methods")]
    return [(name, flat(given)) for block in blocks for name, given in block.items()]


def _gold(value: Any) -> float | None:
    return as_number(value, f"{RESULT} start.gold_by_seed")
