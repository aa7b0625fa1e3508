"""A measurement's folder in, one self-contained HTML file out: which model is best, at which price.

Everything comes from `measure.json`. A part that it does not hold is named as missing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from trueup.reports import charts, measured_verdict, numbers, svg
from trueup.reports.charts import Curve, Point, Spot
from trueup.reports.checked import Interval, Json
from trueup.reports.differences import marked
from trueup.reports.headline import score_of
from trueup.reports.measurement import ALIKE, DIVERSITY, MeasuredModel, Measurement, load, parse
from trueup.reports.page import page, write_page
from trueup.reports.svg import Plot
from trueup.reports.write import choose_samples

PAGE = "measure.html"
FIRST = "measured_first"
"The template of what is seen first."
MOST_SPEAKERS = 12
MOST_NAMED = 8
"Models that all have their names on a plane; of more, the best five and the start."
_SLOTS = (2, 5, 4, 3, 6, 9, 7, 8, 1)
"Colours and shapes in the order of the models; 0 is the start."


@dataclass(frozen=True, slots=True)
class Won:
    """A cell of the win matrix: how often the row beats the column, and a shade from -5 to 5."""

    rate: Interval

    @property
    def shade(self) -> int:
        """How far from even, in tenths."""
        return max(-5, min(5, round(10 * (self.rate.mean - 0.5))))


def write_measured(folder: Path, out: Path | None = None) -> Path:
    """The path of the page written of a measurement: `out`, or `measure.html` in its folder.

    Raises TrueupError if there is no measurement, or its file cannot be read. The page appears whole or not.
    """
    return write_page(render(load(folder)), out if out is not None else folder / PAGE)


def render(record: Json) -> str:
    """The report as one HTML page."""
    return page("measured_models.html.j2", **shown(record))


def shown(record: Json) -> dict[str, Any]:
    """What the templates show of a measurement, by the names that they use."""
    m = parse(record)
    every = [*m.models, *([m.origin] if m.origin else [])]
    slot_of = {x.name: _SLOTS[place % len(_SLOTS)] for place, x in enumerate(m.models)}
    slot_of[m.start] = 0
    samples, kinds = choose_samples(marked(m.samples, m.start))
    known = {name for sample in m.samples for name in sample.replies}
    speakers = [name for name in dict.fromkeys([m.start, *slot_of, *sorted(known)]) if name in known]
    against = sorted({name for x in every for name in x.matrix}, key=lambda n: _order(n, every))
    return {
        "m": m,
        "every": every,
        "origin": measured_verdict.origin(m),
        "score": score_of(m.by),
        "terms": measured_verdict.terms(m),
        "headline": measured_verdict.headline(m),
        "details": (),
        "found": measured_verdict.details(m),
        "limits": measured_verdict.limits(m),
        "swatches": {name: svg.swatch(slot_of.get(name, 8)) for name in (*slot_of, *against, *known)},
        "roles": {judge: _role(m, judge) for judge in m.judges},
        "bars": {(x.name, judge): _bar(x, judge) for x in m.models for judge in x.battles},
        "against": against,
        "wins": {x.name: {name: Won(rate) for name, rate in x.matrix.items()} for x in every},
        "exams": _names(x.tax for x in m.models),
        "sat": _names(x.exams for x in every),
        "tax_cells": charts.tax_cells({x.name: x.tax for x in m.models}),
        "figures": [
            (key, words) for key, words in DIVERSITY.items() if any(key in x.diversity for x in every)
        ],
        "samples": samples,
        "kinds": kinds,
        "speakers": speakers[:MOST_SPEAKERS],
        "all_speakers": len(speakers),
        "first_speakers": speakers[:4],
        "marked_against": m.start if m.start in known else "",
        **_drawings(m, slot_of),
    }


def _drawings(m: Measurement, slot_of: Mapping[str, int]) -> dict[str, Any]:
    planes = [(judge, drawn) for judge in m.judges if (drawn := _plane(m, judge, slot_of, 240)) is not None]
    return {
        "gain_chart": _gains(m, slot_of),
        "score_chart": _scores(m, slot_of),
        "main_plane": _plane(m, m.by, slot_of, 34 * max(7, len(m.models))),
        "planes": planes if len(m.judges) > 1 else [],
        "far_unknown": [x for x in m.models if x.kl is None],
        "diversity_planes": _diversity(m, slot_of),
        "best_of": [(j, drawn) for j in m.judges if (drawn := _best_of(m, j, slot_of)) is not None],
    }


def _gains(m: Measurement, slot_of: Mapping[str, int]) -> Markup | None:
    return charts.interval_chart(
        [charts.Row(x.name, slot_of[x.name], x.gain.get(m.by)) for x in m.models],
        reference=0.0,
        write=lambda value: numbers.plain(value, signed=True),
        axis=numbers.tick,
        description=f"Gain over {measured_verdict.origin(m)} by model",
    )


def _scores(m: Measurement, slot_of: Mapping[str, int]) -> Markup | None:
    start = m.start_score(m.by)
    return charts.interval_chart(
        [charts.Row(x.name, slot_of[x.name], x.scores.get(m.by)) for x in m.models],
        reference=None if start is None else start.mean,
        write=numbers.plain,
        axis=numbers.tick,
        description=f"Score by {m.by}, by model",
    )


def _plane(m: Measurement, judge: str, slot_of: Mapping[str, int], height: int) -> Markup | None:
    """A judge's score against √KL to the start, which stands at no distance; None where no KL is known."""
    spots = [
        Spot(x.name, slot_of[x.name], x.distance and x.distance.mean, x.scores.get(judge), _error(x.distance))
        for x in m.models
    ]
    if not any(spot.x is not None and spot.y is not None for spot in spots):
        return None
    start = m.start_score(judge)
    begins = [] if start is None or not m.start else [Spot(m.start, 0, 0.0, start, None)]
    return charts.scatter(
        [*begins, *spots],
        named=_named(m),
        description=f"Score by {judge} against the square root of KL",
        unit="√nats",
        height=height,
    )


def _diversity(m: Measurement, slot_of: Mapping[str, int]) -> list[tuple[str, Markup]]:
    """The score against every figure of diversity that was measured."""
    every = [*m.models, *([m.origin] if m.origin else [])]
    found = []
    for figure, words in DIVERSITY.items():
        spots = [
            Spot(x.name, slot_of[x.name], kept and kept.mean, x.scores.get(m.by), _error(kept))
            for x in every
            for kept in (x.diversity.get(figure),)
        ]
        if any(spot.x is not None and spot.y is not None for spot in spots):
            drawn = charts.scatter(
                spots,
                named=_named(m),
                description=f"Score by {m.by} against {words.lower()}",
                unit=words.lower(),
                height=240,
                from_zero=False,
            )
            found.append((f"{words}{', less is more diverse' if figure in ALIKE else ''}", drawn))
    return found


def _best_of(m: Measurement, judge: str, slot_of: Mapping[str, int]) -> Markup | None:
    """A judge's score of the best of n samples against the root of the most that it moves."""
    curves = []
    for x in [*m.models, *([m.origin] if m.origin else [])]:
        points = [
            Point(
                Interval(math.sqrt(max(p.kl_bound, 0.0))),
                p.scores[judge],
                f"{x.said}, best of {p.n:g}: {numbers.estimate(p.scores[judge])}",
            )
            for p in sorted(x.curve, key=lambda p: p.n)
            if judge in p.scores and p.kl_bound is not None
        ]
        curves += [Curve(name=x.said, points=points, slot=slot_of[x.name], line="solid")] if points else []
    if not curves:
        return None
    every = [point for curve in curves for point in curve.points]
    across = svg.Scale(0.0, svg.scale_for([0.0, *(p.x.mean for p in every)], pad=0.05).high)
    up = svg.scale_for([end for p in every for end in p.y.ends])
    plot = Plot.filling(across, up, 240, f"Score by {judge} of the best of n samples")
    charts.draw(plot, curves)
    return plot.markup


def _named(m: Measurement) -> set[str]:
    few = m.models if len(m.models) <= MOST_NAMED else m.models[:5]
    return {m.start, *(x.name for x in few)}


def _error(value: Interval | None) -> float | None:
    """A standard error from a 95 % interval."""
    if value is None or value.low is None or value.high is None:
        return None
    return (value.high - value.low) / (2 * 1.96)


def _bar(x: MeasuredModel, judge: str) -> Markup | None:
    found = x.battles[judge]
    shares = [share for share in (found.win, found.tie, found.lose) if share is not None]
    return charts.share_bar(shares) if len(shares) == 3 else None


def _role(m: Measurement, judge: str) -> str:
    """What a judge is to the models here."""
    learned = m.trained_by(judge)
    whose = "its" if len(learned) == 1 else "their"
    trained = f"trained {measured_verdict.names(learned)}: {whose} proxy" if learned else ""
    if judge == m.truth:
        return f"the truth{'; ' + trained if trained else ''}"
    return trained or "referee: trained none of them"


def _names(groups: Iterable[Iterable[str]]) -> list[str]:
    return list(dict.fromkeys(name for group in groups for name in group))


def _order(name: str, every: Sequence[MeasuredModel]) -> tuple[int, str]:
    """Models in the page's order, then names of which nothing else is known."""
    return next((place for place, x in enumerate(every) if x.name == name), len(every)), name
