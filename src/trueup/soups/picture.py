"""The fronts as a drawing that stands alone, and as a page with a table: what `front.json` holds, shown."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

from markupsafe import Markup

from trueup.engine import disk
from trueup.reports import numbers
from trueup.reports.charts import Curve, Point
from trueup.reports.checked import Interval
from trueup.reports.figures import plane
from trueup.reports.page import page as render

Json = Mapping[str, Any]


def write_picture(path: Path, found: Json) -> None:
    """Nothing; the file holds the drawing of the first two rewards."""
    names = found["rewards"]
    disk.write(path, f"{picture(found, names[0], names[min(1, len(names) - 1)])}\n")


def picture(found: Json, across: str, up: str) -> Markup:
    """One reward against another: mixtures joined in the order of their weights, MORL, the start, intervals.

    The broken line joins the experts: linear mode connectivity says that no mixture lies below it.
    """
    of: dict[str, list[Point]] = {"soup": [], "morl": [], "start": [], "experts": []}
    for row in found["policies"]:
        x, y = (_interval(row["rewards"][name]) for name in (across, up))
        expert = 1.0 in row["weights"]
        title = f"{row['name']}: {across} {numbers.estimate(x)}, {up} {numbers.estimate(y)}"
        name = row["name"] if expert or row["kind"] == "start" else ""
        of[row["kind"]].append(Point(x, y, title, name))
        if expert:
            of["experts"].append(Point(x, y))
    path = len(found["experts"]) == 2
    curves = [
        Curve(name="soups, by weight", points=of["soup"], line="solid" if path else "", slot=2),
        Curve(name="MORL, by preference", points=of["morl"], line="broken" if path else "", slot=6),
        Curve(name="start", points=of["start"], slot=0),
    ]
    if path:
        ends = Curve(name="between the experts", points=of["experts"], line="broken", marks=False, slot=0)
        curves.insert(0, ends)
    return plane(
        [curve for curve in curves if curve.points],
        across=across,
        up=up,
        description=f"{up} against {across} for mixtures of experts and for MORL policies",
    )


def page(found: Json) -> str:
    """A self-contained page: a drawing for every two rewards, the policies, the volumes, the slack."""
    return render(
        "soups.html.j2",
        room="trueup.soups",
        headline="Rewarded soups",
        details=sentences(found),
        figures=[picture(found, *pair) for pair in list(combinations(found["rewards"], 2))[:3]],
        found=found,
        estimate=_estimate,
    )


def sentences(found: Json) -> list[str]:
    """The findings in words, each with its interval."""
    lines = [
        f"Hypervolume of the {_SETS[name]}: {_estimate(value)}."
        for name, value in found["hypervolume"].items()
    ]
    lines += [
        f"Hypervolume of the soups less that of the {_SETS[name]}: {_estimate(value, signed=True)}."
        for name, value in found["soups_over"].items()
    ]
    connected = found["connectivity"]
    if connected:
        weights = ", ".join(f"{w:.3g}" for w in connected["weights"])
        lines.append(
            f"Linear mode connectivity {_VERDICTS[connected['verdict']]}: the least slack is "
            f"{_estimate(connected['slack'], signed=True)}, in {connected['reward']} at weights {weights}."
        )
    chosen = found.get("chosen")
    if chosen:
        shares, wanted = (
            ", ".join(f"{w:.3g} {name}" for w, name in zip(weights, names, strict=True))
            for weights, names in (
                (chosen["weights"], found["experts"]),
                (chosen["preference"], found["rewards"]),
            )
        )
        lines.append(
            f"Chosen on validation prompts among {len(chosen['tried'])} mixtures for {wanted}: {shares}."
        )
    return lines


_SETS = {"soups": "soups", "experts": "experts alone", "morl": "MORL policies and experts"}
_VERDICTS = {"holds": "holds", "fails": "does not hold", "unclear": "is neither shown nor refuted"}


def _interval(value: Json) -> Interval:
    return Interval(value["mean"], *(value["ci95"] or ()))


def _estimate(value: Json, *, signed: bool = False) -> str:
    return numbers.estimate(_interval(value), signed=signed, say_unknown=True)
