"""A weighted sum of judges, each brought to a known scale first.

    s(x, y) = Σ_i w_i n_i(s_i(x, y)),   n(s) = s | (s − mean) / std | (s − low) / (high − low)

The numbers of n are written in the file, or measured once on reference completions and kept beside it, so
that a run which is stopped and resumed, and every run after it, adds up the same things.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge

from trueup.engine import disk
from trueup.engine.groups import Group, digest
from trueup.errors import TrueupError
from trueup.judges import Judge
from trueup.settings import config as configuration
from trueup.settings.beside import beside
from trueup.worlds import door_of, open_world

HEADS = "trueup_heads.safetensors"
"Beside a reward model's weights; it changes whenever the model was trained."
NAMES = {"none": (), "zscore": ("mean", "std"), "range": ("low", "high")}


@dataclass(frozen=True, kw_only=True)
class Part:
    """One judge of the sum."""

    judge: str
    "Any reference to a judge; `$name` is what follows `?name=` behind the file's name."
    name: str = ""
    "What the weight is set by behind the file's name: `FILE.yaml?helpful=0.3&short=0.7`."
    weight: float = 1.0
    normalise: Literal["none", "zscore", "range"] = "none"
    "As it is, (s − mean) / std, or (s − low) / (high − low)."
    mean: float | None = None
    std: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Weights:
    """The file of a weighted sum."""

    parts: tuple[Part, ...]
    reference: str = ""
    "Groups on whose completions numbers that a part leaves out are measured: a file, or `world:NAME`."
    limit: Annotated[int, Ge(1)] = 200
    "Groups of it that are scored."


_OPENING: ContextVar[tuple[Path, ...]] = ContextVar("opening", default=())
"The sums whose parts are being opened."


@dataclass(frozen=True, kw_only=True)
class WeightedSum:
    """The sum of several judges' scores, each shifted by its `zero` and divided by its `unit` first."""

    judges: tuple[Judge, ...]
    weights: tuple[float, ...]
    zeros: tuple[float, ...]
    units: tuple[float, ...]

    def __call__(self, groups: Sequence[Group]) -> list[list[float]]:
        """Σ_i w_i (s_i − zero_i) / unit_i for each completion. Raises E796 where it is not finite."""
        total = [[0.0] * len(group.completions) for group in groups]
        for judge, weight, zero, unit in zip(self.judges, self.weights, self.zeros, self.units, strict=True):
            for row, scores in zip(total, judge(groups), strict=True):
                for i, score in enumerate(scores):
                    row[i] += weight * (score - zero) / unit
        if not all(math.isfinite(score) for row in total for score in row):
            raise _wrong("judge", "the sum of its parts is no finite number", "give smaller weights")
        return total


def open_weighted(ref: str, open_judge: Callable[[str], Judge]) -> WeightedSum:
    """The sum that `FILE.yaml?name=value&...` describes; `open_judge` opens its parts.

    A part's name sets its weight. Where any is named, the weights are a point of the simplex: none below 0,
    their sum 1, parts that are not named 0; a part of weight 0 is not asked. So one file serves every
    linear scalarisation Σ_i μ_i R_i of its rewards, and each reward alone.

    Raises E801 for a missing file, E7xx for a file that says something else, E796 for a part whose scale is
    neither declared nor measurable, for weights that leave the simplex, and for a sum that is its own part.
    """
    name, _, query = ref.partition("?")
    path = Path(name)
    if not path.exists():
        raise TrueupError("E801", "no such file", where=f"judge {ref}", remedy="name a weighted sum's")
    file = configuration.build(Weights, configuration.read_yaml(path), where=name)
    if not file.parts:
        raise _wrong(name, "there is no part", "name at least one judge")
    bound = {key: value for key, _, value in (part.partition("=") for part in query.split("&") if part)}
    parts = _weighed(file.parts, bound, ref)
    references = [_bound(part.judge, bound, name) for part in parts]
    above = _OPENING.get()
    if path.resolve() in above:
        raise _wrong(name, "it is a part of itself", "name other judges as its parts")
    token = _OPENING.set((*above, path.resolve()))
    try:
        judges = tuple(
            # What stands behind the file's name was typed, what stands in the file is beside it.
            open_judge(reference if part.judge.startswith("$") else beside(path.parent, reference))
            for part, reference in zip(parts, references, strict=True)
        )
    finally:
        _OPENING.reset(token)
    scales = [
        _scale(part, _complete(part, reference, judge, file, path))
        for part, reference, judge in zip(parts, references, judges, strict=True)
    ]
    return WeightedSum(
        judges=judges,
        weights=tuple(part.weight for part in parts),
        zeros=tuple(zero for zero, _ in scales),
        units=tuple(unit for _, unit in scales),
    )


def _weighed(parts: Sequence[Part], bound: Mapping[str, str], ref: str) -> list[Part]:
    """The parts with the weights that stand behind the file's name, those of weight 0 left out."""
    names = [part.name for part in parts if part.name]
    asked = {part.judge.removeprefix("$") for part in parts if part.judge.startswith("$")}
    unused = sorted(set(bound) - asked - set(names))
    if unused:
        raise _wrong(ref, f"the file does not speak of ${unused[0]}", "leave it out")
    twice = {name for name in names if names.count(name) > 1 or name in asked}
    if twice:
        raise _wrong(ref, f"`{min(twice)}` names two things", "give every part a name of its own")
    if not set(bound) & set(names):
        return list(parts)
    try:
        weights = [float(bound.get(part.name, "0")) for part in parts]
    except ValueError:
        raise _wrong(ref, "a weight is no number", f"write {names[0]}=0.5") from None
    if not (min(weights) >= 0 and abs(sum(weights) - 1) < 1e-6):
        raise _wrong(
            ref, f"the weights {', '.join(f'{w:g}' for w in weights)} leave the simplex", "let them sum to 1"
        )
    return [replace(part, weight=weight) for part, weight in zip(parts, weights, strict=True) if weight]


def _bound(judge: str, bound: Mapping[str, str], where: str) -> str:
    if not judge.startswith("$"):
        return judge
    if judge[1:] not in bound:
        raise _wrong(where, f"nothing is given for {judge}", f"write {where}?{judge[1:]}=REFERENCE")
    return bound[judge[1:]]


def _complete(part: Part, reference: str, judge: Judge, file: Weights, path: Path) -> dict[str, float]:
    """The numbers of a part's normalisation: those in the file, else those measured before, else now."""
    wanted = NAMES[part.normalise]
    declared = {name: getattr(part, name) for name in ("mean", "std", "low", "high")}
    stray = [name for name, value in declared.items() if value is not None and name not in wanted]
    if stray:
        raise _wrong(str(path), f"`{stray[0]}` says nothing with normalise: {part.normalise}", "leave it out")
    found = {name: declared[name] for name in wanted if declared[name] is not None}
    if len(found) == len(wanted):
        return found
    if not file.reference:
        missing = next(name for name in wanted if name not in found)
        raise _wrong(
            str(path), f"no `{missing}` for {part.judge}", "declare it, or name `reference` completions"
        )
    return {**_measured(reference, judge, file, path), **found}


def _scale(part: Part, numbers: Mapping[str, float]) -> tuple[float, float]:
    """Zero and unit of a part."""
    if part.normalise == "none":
        return 0.0, 1.0
    zscore = part.normalise == "zscore"
    zero, unit = (
        (numbers["mean"], numbers["std"]) if zscore else (numbers["low"], numbers["high"] - numbers["low"])
    )
    if not unit > 0:
        raise _wrong(
            f"judge {part.judge}", f"its spread is {unit}", "declare one above 0, or normalise: none"
        )
    return zero, unit


def _measured(reference: str, judge: Judge, file: Weights, path: Path) -> dict[str, float]:
    """Moments and range of a judge's scores on the reference completions, kept beside the file."""
    groups = _reference_groups(file, path)
    moments = path.with_suffix(".moments.json")
    kept = json.loads(moments.read_text(encoding="utf-8")) if moments.is_file() else {}
    place = beside(path.parent, reference)
    key = hashlib.sha256(f"{reference}\0{_bytes_of(place)}\0{digest(groups)}".encode()).hexdigest()
    if key not in kept:
        scores = np.array([score for row in judge(groups) for score in row])
        kept[key] = {
            "judge": reference,
            "mean": float(scores.mean()),
            "std": float(scores.std()),
            "low": float(scores.min()),
            "high": float(scores.max()),
            "completions": len(scores),
        }
        _keep(moments, kept)
    return {name: kept[key][name] for name in ("mean", "std", "low", "high")}


def _reference_groups(file: Weights, path: Path) -> list[Group]:
    # Imported here: a sum whose scales are declared reads no data.
    from trueup.data import read
    from trueup.sources.open import world_groups

    door = door_of(file.reference)
    if door is not None:
        groups = world_groups(open_world(door.world), door.name, split="train", limit=file.limit)
    else:
        groups = read(beside(path.parent, file.reference), limit=file.limit).groups
    if not any(group.completions for group in groups):
        raise _wrong(file.reference, "there are no completions to score", "name groups that have some")
    return groups


def _bytes_of(reference: str) -> str:
    """A digest of what stands on disk behind a reference, so that a judge trained anew is measured anew."""
    path = Path(reference.rpartition(":")[0] if ".py:" in reference else reference)
    if not path.exists():  # options may stand behind a folder
        path = Path(reference.partition("?")[0])
    file = path / HEADS if path.is_dir() else path
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""


def _keep(path: Path, values: Mapping[str, object]) -> None:
    """Nothing; the file holds all of it or what it held before."""
    try:
        disk.write(path, json.dumps(values, indent=1, sort_keys=True) + "\n")
    except TrueupError as error:
        why = f"what was measured cannot be kept: {error.reason}"
        raise _wrong(str(path), why, "declare the numbers") from None


def _wrong(where: str, reason: str, remedy: str) -> TrueupError:
    return TrueupError("E796", reason, where=where, remedy=remedy)
