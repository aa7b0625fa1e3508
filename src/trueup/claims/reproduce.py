"""Claims: what is said in the field, measured again, with effects, intervals, a verdict and a picture.

A file in `trueup/claims/files/` is a claim. It says what is claimed (SUMMARY, one sentence), by whom
(REFERENCES), what was changed after numbers had been seen, if anything was (REVISED), and
`measure(folder, trials)` gives a `Finding`. Where a recipe of the same name lies beside it, the trials are
that recipe's runs at every seed of SEEDS; else there are none. Nothing is registered. What was found is
kept as

    FOLDER/kl-directions/  claim.json  figure.svg  index.html
    FOLDER/stages/         what the recipes ran, shared by all claims
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np
from markupsafe import Markup

from trueup.claims.experiment import Experiment, Trial
from trueup.errors import TrueupError
from trueup.reports import figures
from trueup.reports.visible import visible
from trueup.runs.recipe import read_recipe, write_atomically
from trueup.settings import discover
from trueup.statistics.estimates import mean_ci

FILES = "trueup.claims.files"
"The package that holds one file, or two, for each claim."
Verdict = Literal["holds", "does not hold here", "undecided"]


@dataclass(frozen=True, kw_only=True)
class Effect:
    """One measured number, its interval, and where the claim says that it lies."""

    name: str
    value: float
    wanted: tuple[float | None, float | None]
    "The claim holds for numbers from the first to the second; None leaves an end open."
    interval: tuple[float, float] | None = None
    "95 % interval of the value; None where nothing is random."
    unit: str = ""
    by_seed: tuple[float, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """`holds` where the whole interval is wanted, `does not hold here` where none of it is."""
        low, high = self.interval or (self.value, self.value)
        least = -math.inf if self.wanted[0] is None else self.wanted[0]
        most = math.inf if self.wanted[1] is None else self.wanted[1]
        if least <= low and high <= most:
            return "holds"
        overlaps = low <= most and high >= least
        return "undecided" if overlaps else "does not hold here"


def over_seeds(
    name: str, values: Sequence[float], wanted: tuple[float | None, float | None], unit: str = ""
) -> Effect:
    """The mean over seeds with its 95 % t interval, m ± t_{n−1} s/√n; two values at least, one a seed."""
    found = mean_ci(np.asarray(values, np.float64))
    return Effect(
        name=name,
        value=found.mean,
        interval=(found.low, found.high),
        wanted=wanted,
        unit=unit,
        by_seed=tuple(float(v) for v in values),
    )


def dots(values: Mapping[str, Sequence[float]], **drawn: Any) -> Markup:
    """`figures.dots` of each name's values over seeds, with the 95 % t interval of their mean."""
    found = {name: mean_ci(np.asarray(given, np.float64)) for name, given in values.items()}
    rows = [figures.Dots(name, list(values[name]), e.low, e.high) for name, e in found.items()]
    return figures.dots(rows, **drawn)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What measuring a claim gave."""

    effects: tuple[Effect, ...]
    setting: str
    "What was done, in a sentence or two."
    figure: Markup
    "An SVG drawing that needs nothing beside it."
    caption: str
    because: str = ""
    "What is known of why, said where the claim does not hold here."

    @property
    def verdict(self) -> Verdict:
        """`does not hold here` where any effect does not, else `undecided` where any is, else `holds`."""
        found = {effect.verdict for effect in self.effects}
        if "does not hold here" in found:
            return "does not hold here"
        return "undecided" if "undecided" in found or not found else "holds"


def claims() -> list[str]:
    """The names of all claims, as they are typed."""
    return [name.replace("_", "-") for name in discover.names(FILES)]


def listing(folder: Path) -> list[dict[str, Any]]:
    """Every claim as `folder` keeps it, or with verdict None where it was not measured."""
    return [kept(name, folder) or {**about(name), "verdict": None} for name in claims()]


def about(name: str) -> dict[str, Any]:
    """What a claim says, who said it, and what of it was changed after a first look; nothing is imported."""
    said = discover.constants(_module(name), FILES)
    return {
        "name": name,
        "claim": said["SUMMARY"],
        "references": list(said["REFERENCES"]),
        "revised": said.get("REVISED", ""),
    }


def experiment(
    name: str, *, seeds: Sequence[int] = (), overrides: Mapping[str, Any] | None = None
) -> Experiment | None:
    """The runs that a claim is measured on, at `seeds` or its own; None for one that needs none."""
    module = _module(name)
    path = Path(str(resources.files(FILES) / f"{module}.yaml"))
    if not path.is_file():
        return None
    own = discover.constants(module, FILES)["SEEDS"]
    recipe = read_recipe(path, {"stages": dict(overrides)} if overrides else None)
    return Experiment(name=name.replace("_", "-"), recipe=recipe, seeds=tuple(seeds) or own)


def reproduce(
    name: str, folder: Path, trials: Sequence[Trial] = (), changed: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What was found, as plain values; kept in `folder/NAME` with its picture and a page.

    `changed` are the settings of its recipe that were not its own, kept beside the numbers.
    """
    module = importlib.import_module(f"{FILES}.{_module(name)}")
    name = name.replace("_", "-")
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    finding: Finding = module.measure(place, trials)
    row = {
        **about(name),
        "seeds": [trial.seed for trial in trials],
        "changed": dict(changed or {}),
        "verdict": finding.verdict,
        "setting": finding.setting,
        "effects": [{**dataclasses.asdict(e), "verdict": e.verdict} for e in finding.effects],
        "caption": finding.caption,
        "because": finding.because if finding.verdict == "does not hold here" else "",
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
    known = discover.names(FILES)
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
<p>{because}</p>
<p>{revised}</p>
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
    style = Markup((resources.files("trueup.reports") / "report.css").read_text("utf-8"))
    rows = Markup("").join(
        _ROW.format(
            name=visible(e.name), value=measured(e), wanted=f"{between(e.wanted)} {e.unit}", verdict=e.verdict
        )
        for e in finding.effects
    )
    return _PAGE.format(
        name=row["name"],
        verdict="is undecided" if finding.verdict == "undecided" else finding.verdict,
        style=style,
        claim=row["claim"],
        setting=finding.setting,
        because=row["because"],
        revised=row["revised"],
        figure=finding.figure,
        caption=finding.caption,
        rows=rows,
    )


def measured(effect: Effect) -> str:
    """The number with its interval."""
    if effect.interval is None:
        return f"{effect.value:.6g}"
    return f"{effect.value:.4g} ({between(effect.interval)})"


def between(ends: tuple[float | None, float | None]) -> str:
    """Both ends, or where they are as good as one, that one and how far it may be; one where one is open."""
    low, high = ends
    if low is None or high is None:
        return f"above {low:.4g}" if low is not None else f"below {high:.4g}" if high is not None else "any"
    middle, room = (low + high) / 2, (high - low) / 2
    if room <= 1e-3 * max(1.0, abs(middle)):
        return f"{middle:.6g} ± {room:.1g}"
    return f"{low:.4g} to {high:.4g}"
