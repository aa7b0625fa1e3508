"""The fronts as a drawing that stands alone, and as a page with a table: what `front.json` holds, shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from markupsafe import Markup

from trueup.reports import svg
from trueup.reports.numbers import between, nats, plain, tick
from trueup.reports.svg import Scale, element
from trueup.reports.visible import visible
from trueup.runs.recipe import write_atomically

Json = Mapping[str, Any]
WIDTH, HEIGHT, LEFT, TOP = 720, 360, 70, 40
COLOURS = {"soup": "#2a6bb3", "morl": "#c03b39", "start": "#565d66"}
NAMES = {"soup": "soups, by weight", "morl": "MORL, by preference", "start": "start"}
STYLE = """
.front { font: 13px ui-sans-serif, system-ui, sans-serif; }
.front text { fill: #565d66; } .front .tick { text-anchor: middle; } .front .left { text-anchor: end; }
.front .ground { fill: #fff; } .front .grid { stroke: #ebebe6; } .front .name { fill: #24292f; }
.front .bar { stroke-opacity: .35; } .front polyline { fill: none; stroke-width: 2; }
.front polyline { vector-effect: non-scaling-stroke; } .front .segment { stroke-dasharray: 4 4; }
"""


def write_picture(path: Path, found: Json) -> None:
    """Nothing; the file holds the drawing of the first two rewards."""
    write_atomically(path, f"{picture(found, *_first_two(found))}\n")


def picture(found: Json, across: str, up: str) -> Markup:
    """One reward against another: mixtures joined in the order of their weights, MORL, the start, intervals.

    The broken line joins the experts: linear mode connectivity says that no mixture lies below it.
    """
    rows = found["policies"]
    wide, high = (
        svg.scale_for([v for row in rows for v in _ends(row["rewards"][name])]) for name in (across, up)
    )
    frame = element(
        "svg",
        xmlns="http://www.w3.org/2000/svg",
        class_="front",
        viewBox=f"0 0 {WIDTH} {HEIGHT + TOP + 50}",
        width="100%",
        role="img",
        aria_label=visible(f"{up} against {across} for mixtures of experts and for MORL policies"),
    )
    style = element("style")
    style.text = STYLE
    frame.append(style)
    frame.append(element("rect", class_="ground", width="100%", height="100%"))
    plot = element("svg", x=LEFT, y=TOP, width=WIDTH - LEFT - 20, height=HEIGHT, overflow="visible")
    _grid(plot, wide, high)
    _lines(plot, found, (across, up), (wide, high))
    for row in rows:
        _point(plot, row, (across, up), (wide, high))
    frame.append(plot)
    kinds = [kind for kind in NAMES if any(row["kind"] == kind for row in rows)]
    for place, kind in enumerate(kinds):
        frame.append(element("circle", cx=LEFT + 6 + 190 * place, cy=16, r=5, fill=COLOURS[kind]))
        frame.append(element("text", NAMES[kind], x=LEFT + 18 + 190 * place, y=20))
    frame.append(element("text", across, class_="tick", x=LEFT + 315, y=HEIGHT + TOP + 42))
    frame.append(element("text", up, x=6, y=TOP - 8))
    return svg.markup(frame)


def page(found: Json) -> str:
    """A self-contained page: a drawing for every two rewards, the policies, the volumes, the slack."""
    names = found["rewards"]
    pairs = list(combinations(names, 2))[:3]
    figures = Markup("").join(Markup("<figure>{}</figure>").format(picture(found, *pair)) for pair in pairs)
    head = Markup("").join(
        Markup("<th>{}</th>").format(t) for t in ("policy", *names, "KL", "tokens", "front")
    )
    body = Markup("").join(_row(row, names) for row in found["policies"])
    return _PAGE.format(
        style=Markup(_STYLE),
        figures=figures,
        head=head,
        body=body,
        said=Markup("").join(Markup("<li>{}</li>").format(line) for line in sentences(found)),
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
        shares = ", ".join(
            f"{w:.3g} {name}" for w, name in zip(chosen["weights"], found["experts"], strict=True)
        )
        wanted = ", ".join(
            f"{w:.3g} {name}" for w, name in zip(chosen["preference"], found["rewards"], strict=True)
        )
        lines.append(
            f"Chosen on validation prompts among {len(chosen['tried'])} mixtures for {wanted}: {shares}."
        )
    return lines


_SETS = {"soups": "soups", "experts": "experts alone", "morl": "MORL policies and experts"}
_VERDICTS = {"holds": "holds", "fails": "does not hold", "unclear": "is neither shown nor refuted"}


def _estimate(value: Json, *, signed: bool = False) -> str:
    low, high = value["ci95"] or (None, None)
    return f"{plain(value['mean'], signed=signed)} {between(low, high, signed=signed)}"


def _row(row: Json, names: Sequence[str]) -> Markup:
    cells = [visible(row["name"]), *(_estimate(row["rewards"][name]) for name in names)]
    cells += [nats(row["kl"]), f"{row['length']:.1f}", "yes" if row["on_front"] else ""]
    return Markup("<tr>{}</tr>").format(Markup("").join(Markup("<td>{}</td>").format(c) for c in cells))


def _first_two(found: Json) -> tuple[str, str]:
    names = found["rewards"]
    return names[0], names[min(1, len(names) - 1)]


def _ends(value: Json) -> tuple[float, ...]:
    return (value["mean"], *(value["ci95"] or ()))


def _grid(plot: svg.Element, wide: Scale, high: Scale) -> None:
    for value in svg.ticks(wide, 6):
        x = wide.x(value)
        plot.append(element("line", class_="grid", x1=x, x2=x, y1=0, y2=HEIGHT))
        plot.append(element("text", tick(value), class_="tick", x=x, y=HEIGHT + 18))
    for value in svg.ticks(high, 5):
        y = high.y(value, HEIGHT)
        plot.append(element("line", class_="grid", x1="0%", x2="100%", y1=y, y2=y))
        plot.append(element("text", tick(value), class_="left", x=-8, y=y + 4))


def _lines(plot: svg.Element, found: Json, names: tuple[str, str], scales: tuple[Scale, Scale]) -> None:
    """The path of two experts' mixtures by weight, the line between the experts, MORL's policies as named."""
    places = {
        kind: [_place(row, names, scales) for row in found["policies"] if row["kind"] == kind]
        for kind in NAMES
    }
    if len(found["experts"]) == 2:
        for kind, style in (("soup", ""), ("morl", "segment")):
            if len(places[kind]) > 1:
                plot.append(_line(places[kind], style, COLOURS[kind]))
        ends = [_place(r, names, scales) for r in found["policies"] if 1.0 in r["weights"]]
        plot.append(_line(ends, "segment", COLOURS["start"]))


def _line(places: Sequence[tuple[float, float]], style: str, colour: str) -> svg.Element:
    drawn = svg.line(places, HEIGHT, style)
    drawn[0].set("stroke", colour)
    return drawn


def _place(row: Json, names: tuple[str, str], scales: tuple[Scale, Scale]) -> tuple[float, float]:
    x, y = (row["rewards"][name]["mean"] for name in names)
    return scales[0].thousandths(x), scales[1].y(y, HEIGHT)


def _point(plot: svg.Element, row: Json, names: tuple[str, str], scales: tuple[Scale, Scale]) -> None:
    wide, high = scales
    one, other = (row["rewards"][name] for name in names)
    x, y, colour = wide.x(one["mean"]), high.y(other["mean"], HEIGHT), COLOURS[row["kind"]]
    if one["ci95"]:
        a, b = (wide.x(v) for v in one["ci95"])
        plot.append(element("line", class_="bar", x1=a, x2=b, y1=y, y2=y, stroke=colour))
    if other["ci95"]:
        a, b = (high.y(v, HEIGHT) for v in other["ci95"])
        plot.append(element("line", class_="bar", x1=x, x2=x, y1=a, y2=b, stroke=colour))
    dot = element("circle", cx=x, cy=y, r=5, fill=colour)
    values = ", ".join(f"{name} {_estimate(row['rewards'][name])}" for name in names)
    dot.append(element("title", f"{row['name']}: {values}"))
    plot.append(dot)
    if row["kind"] == "start" or 1.0 in row["weights"]:
        plot.append(element("text", row["name"], class_="name", x=x, y=y - 10, dx=6))


_STYLE = """
body { font: 15px/1.5 ui-sans-serif, system-ui, sans-serif; color: #24292f; max-width: 46rem;
  margin: 2rem auto; padding: 0 1rem; }
figure { margin: 1rem 0; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid #e5e5e0; }
main { overflow-x: auto; }
"""
_PAGE = Markup("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Rewarded soups</title>
<style>{style}</style>
</head>
<body>
<h1>Rewarded soups</h1>
<main>
<ul>{said}</ul>
{figures}
<table>
<thead><tr>{head}</tr></thead>
<tbody>{body}</tbody>
</table>
<p>Brackets: 95&nbsp;% intervals over prompts. KL in nats a completion, from the start. The broken grey line
joins the experts: no mixture lies below it where linear mode connectivity holds.</p>
</main>
</body>
</html>
""")
