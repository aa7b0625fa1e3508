"""Claims: what is said in the field, measured again, with effects, intervals, a verdict and a picture.

A file in `trueup/claims/files/` is a claim. It says what is claimed (SUMMARY, one sentence), by whom
(REFERENCES), what was changed after numbers had been seen, if anything was (REVISED), within how much an
effect counts as none (MARGIN), how many minutes of CPU a seed takes where nothing is shared (MINUTES), and
`measure(trials)` gives a `Finding`. Where a recipe of the same name lies beside it, the trials are that
recipe's runs at every seed of SEEDS; else there are none. Nothing is registered. What was found is kept as

    FOLDER/kl-directions/  claim.json  figure.svg  index.html, and plan.json where seeds were added
    FOLDER/stages/         what the recipes ran, shared by all claims
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trueup.claims.experiment import Experiment, Trial, read_stages
from trueup.claims.finding import Effect, Finding, sentence, worded
from trueup.claims.planning import Plan, plan_for, set_down
from trueup.engine import disk
from trueup.engine.inputs import changed_in
from trueup.errors import TrueupError
from trueup.reports.page import page
from trueup.runs.recipe import Recipe
from trueup.settings import config as configuration
from trueup.settings import discover

FILES = "trueup.claims.files"
"The package that holds one file, or two, for each claim."


def claims() -> list[str]:
    """The names of all claims, as they are typed."""
    return [name.replace("_", "-") for name in discover.names(FILES)]


def listing(folder: Path) -> list[dict[str, Any]]:
    """Every claim as `folder` keeps it, or with verdict None where it was not measured."""
    return [{**about(name), "verdict": None, **(kept(name, folder) or {})} for name in claims()]


def about(name: str) -> dict[str, Any]:
    """What a claim says, who said it, and what of it was changed after a first look; nothing is imported."""
    said = discover.constants(_module(name), FILES)
    return {
        "name": name,
        "claim": said["SUMMARY"],
        "references": list(said["REFERENCES"]),
        "revised": said.get("REVISED", ""),
        "margin": said.get("MARGIN"),
        "minutes": said.get("MINUTES"),
    }


def experiment(
    name: str, *, seeds: Sequence[int] = (), overrides: Mapping[str, Any] | None = None
) -> Experiment | None:
    """The runs that a claim is measured on, at `seeds` or its own; None for one that needs none."""
    module = _module(name)
    path = _recipe(module)
    if not path.is_file():
        return None
    name = name.replace("_", "-")
    values = {"name": name, "stages": read_stages(path)}
    recipe = configuration.build(Recipe, values, {"stages": dict(overrides or {})}, where=str(path))
    return Experiment(name=name, recipe=recipe, seeds=tuple(seeds) or own_seeds(name))


def own_seeds(name: str) -> tuple[int, ...]:
    """The seeds that a claim's file names; none for one that runs nothing."""
    module = _module(name)
    return tuple(discover.constants(module, FILES)["SEEDS"]) if _recipe(module).is_file() else ()


def _recipe(module: str) -> Path:
    return Path(__file__).with_name("files") / f"{module}.yaml"


def reproduce(
    name: str,
    folder: Path,
    trials: Sequence[Trial] = (),
    changed: Mapping[str, Any] | None = None,
    plan: Plan | None = None,
) -> dict[str, Any]:
    """What was found, as plain values; kept in `folder/NAME` with its picture and a page.

    `changed` are the settings of its recipe that were not its own, and `plan` why it has more seeds than its
    own, both kept beside the numbers.
    """
    module = importlib.import_module(f"{FILES}.{_module(name)}")
    name = name.replace("_", "-")
    place = folder / name
    disk.make_folder(place)
    finding: Finding = module.measure(trials)
    row = {
        **about(name),
        "seeds": [trial.seed for trial in trials],
        "plan": None if plan is None else dataclasses.asdict(plan),
        "changed": dict(changed or {}),
        "changed_inputs": changed_in(folder / "stages") if trials else [],
        "minutes": minutes(trials) or about(name)["minutes"],
        "verdict": finding.verdict,
        "setting": finding.setting,
        "effects": [{**dataclasses.asdict(e), "verdict": e.verdict} for e in finding.effects],
        "caption": finding.caption,
        "because": finding.because if finding.verdict == "does not hold here" else "",
        "figure": "figure.svg",
    }
    disk.write(place / "figure.svg", f"{finding.figure}\n")
    disk.write(place / "index.html", _page(row, finding))
    disk.write(place / "claim.json", json.dumps(row, indent=1, ensure_ascii=False) + "\n")
    return row


def effects_of(row: Mapping[str, Any]) -> list[Effect]:
    """The effects of what `reproduce` kept."""
    return [Effect(**{k: v for k, v in found.items() if k != "verdict"}) for found in row["effects"]]


def verdict_of(row: Mapping[str, Any]) -> str:
    """The verdict of what `reproduce` kept, in full: `undecided with 4 seeds`; empty where nothing was."""
    return worded(row["verdict"], effects_of(row), row["seeds"]) if "effects" in row else ""


def sentence_of(row: Mapping[str, Any]) -> str:
    """The same as a predicate: `is undecided with 4 seeds`."""
    return sentence(row["verdict"], effects_of(row), row["seeds"])


def plan_told(row: Mapping[str, Any]) -> str:
    """Why a claim was given more seeds than its own, in a sentence; empty where it was not."""
    plan = row.get("plan")
    if not plan:
        return ""
    asked = "; ".join(
        f"{a['effect']}: spread {a['spread']:.3g}, X = {a['margin']:g}, which asks for "
        f"{a['seeds'] if a['seeds'] < 1000 else '1000 or more'}"
        for a in plan["asked"]
    )
    return (
        f"Undecided with {len(plan['first'])} seeds, so set down to be run at {len(plan['seeds'])} ({asked})."
    )


def minutes(trials: Sequence[Trial]) -> float:
    """Minutes that a seed's stages took by the clock, each counted as if nothing were shared."""
    seconds = [trial.done(name).cost.get("seconds", 0.0) for trial in trials for name in trial.stages]
    return sum(seconds) / 60 / max(1, len(trials))


def planned(row: Mapping[str, Any], folder: Path) -> Plan | None:
    """The seeds that an undecided claim asks for, set down in its folder; None where it is decided.

    And where it was given a plan before, has no margin, or 16 seeds already.
    """
    if row["plan"] is not None:
        return None
    plan = plan_for(effects_of(row), row["seeds"], row["changed"])
    if plan is not None:
        set_down(plan, folder / row["name"])
    return plan


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


def _page(row: Mapping[str, Any], finding: Finding) -> str:
    verdict = sentence_of(row)
    return page(
        "claim.html.j2",
        room="trueup.claims",
        name=row["name"],
        verdict=verdict,
        headline=f"{row['claim']} The claim {verdict}.",
        details=(),
        finding=finding,
        because=row["because"],
        revised=row["revised"],
        planned=plan_told(row),
        changed=row["changed_inputs"],
        measured=measured,
        between=between,
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
