"""Claims: what is said in the field, measured again, with effects, intervals, a verdict and a picture.

A file in `trueup/claims/` is a claim. It says what is claimed (SUMMARY, one sentence), by whom (REFERENCES),
and `measure(folder)` gives a `Finding`. Nothing is registered. What was found is kept as

    FOLDER/kl-directions/  claim.json  figure.svg  index.html
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from markupsafe import Markup

import trueup.claims
from trueup import discover
from trueup.errors import TrueupError
from trueup.report.visible import visible
from trueup.run import write_atomically

Verdict = Literal["holds", "fails", "unclear"]


@dataclass(frozen=True, kw_only=True)
class Effect:
    """One measured number, its interval, and where the claim says that it lies."""

    name: str
    value: float
    wanted: tuple[float, float]
    "The claim holds for numbers from the first to the second."
    interval: tuple[float, float] | None = None
    "95 % interval of the value; None where nothing is random."
    unit: str = ""

    @property
    def verdict(self) -> Verdict:
        """`holds` where the whole interval is wanted, `fails` where none of it is, else `unclear`."""
        low, high = self.interval or (self.value, self.value)
        if self.wanted[0] <= low and high <= self.wanted[1]:
            return "holds"
        overlaps = low <= self.wanted[1] and high >= self.wanted[0]
        return "unclear" if overlaps else "fails"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What measuring a claim gave."""

    effects: tuple[Effect, ...]
    setting: str
    "What was done, in a sentence or two."
    figure: Markup
    "An SVG drawing that needs nothing beside it."
    caption: str

    @property
    def verdict(self) -> Verdict:
        """`fails` where any effect does, else `unclear` where any is, else `holds`."""
        found = {effect.verdict for effect in self.effects}
        return "fails" if "fails" in found else "unclear" if "unclear" in found or not found else "holds"


def claims() -> list[str]:
    """The names of all claims, as they are typed."""
    return [name.replace("_", "-") for name in discover.names(trueup.claims)]


def about(name: str) -> dict[str, Any]:
    """What a claim says and who said it, read without importing it."""
    said = discover.constants(_module(name), trueup.claims)
    return {"name": name, "claim": said["SUMMARY"], "references": list(said["REFERENCES"])}


def reproduce(name: str, folder: Path) -> dict[str, Any]:
    """What was found, as plain values; kept in `folder/NAME` with its picture and a page."""
    module = importlib.import_module(f"trueup.claims.{_module(name)}")
    name = name.replace("_", "-")
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    finding: Finding = module.measure(place)
    row = {
        **about(name),
        "verdict": finding.verdict,
        "setting": finding.setting,
        "effects": [{**dataclasses.asdict(e), "verdict": e.verdict} for e in finding.effects],
        "figure": "figure.svg",
    }
    write_atomically(place / "figure.svg", f"{finding.figure}\n")
    write_atomically(place / "index.html", _page(row, finding))
    write_atomically(place / "claim.json", json.dumps(row, indent=1, ensure_ascii=False) + "\n")
    return row


def kept(name: str, folder: Path) -> dict[str, Any] | None:
    """What `reproduce` found before, if it did."""
    path = folder / name / "claim.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _module(name: str) -> str:
    known = discover.names(trueup.claims)
    if name.replace("-", "_") in known:
        return name.replace("-", "_")
    near = difflib.get_close_matches(name, claims(), 1)
    raise TrueupError(
        "E702",
        f"there is no claim {name!r}",
        where="claim",
        remedy=f"did you mean {near[0]!r}?" if near else f"one of {', '.join(claims())}",
    )


_PAGE = Markup("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name} · {verdict}</title>
<style>{style}</style>
</head>
<body>
<header>
<div class="eyebrow"><p><b>trueup</b> claim <bdi>{name}</bdi></p></div>
<h1>{claim} The claim {verdict}.</h1>
</header>
<main>
<p>{setting}</p>
<figure>{figure}<figcaption>{caption}</figcaption></figure>
<table>
<thead><tr><th>effect</th><th>measured</th><th>claimed</th><th>verdict</th></tr></thead>
<tbody>{rows}</tbody>
</table>
</main>
</body>
</html>
""")
_ROW = Markup("<tr><th>{name}</th><td>{value}</td><td>{wanted}</td><td>{verdict}</td></tr>\n")


def _page(row: dict[str, Any], finding: Finding) -> str:
    # The style sheet is ours: it is the one string that is put in unescaped.
    style = Markup((resources.files("trueup.report") / "report.css").read_text("utf-8"))
    rows = Markup("").join(
        _ROW.format(
            name=visible(e.name), value=measured(e), wanted=f"{between(e.wanted)} {e.unit}", verdict=e.verdict
        )
        for e in finding.effects
    )
    return _PAGE.format(
        name=row["name"],
        verdict="is unclear" if finding.verdict == "unclear" else finding.verdict,
        style=style,
        claim=row["claim"],
        setting=finding.setting,
        figure=finding.figure,
        caption=finding.caption,
        rows=rows,
    )


def measured(effect: Effect) -> str:
    """The number with its interval."""
    shown = f"{effect.value:.6g}"
    return f"{shown} ({between(effect.interval)})" if effect.interval else shown


def between(ends: tuple[float, float]) -> str:
    """Both ends, or where they are as good as one, that one and how far it may be."""
    low, high = ends
    middle, room = (low + high) / 2, (high - low) / 2
    if room <= 1e-3 * max(1.0, abs(middle)):
        return f"{middle:.6g} ± {room:.1g}"
    return f"{low:.4g} to {high:.4g}"
