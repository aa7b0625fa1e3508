"""How many seeds an undecided claim is given: by the spread of the first ones, set down before more are run.

    n = the least n ≥ n₀ with t_{n−1} s / √n ≤ (X − d) / 2,   16 at most

s is the deviation over the first n₀ seeds, X the effect's margin, d how far the ends of the wanted range lie
from no effect, t the 97.5 % quantile. An interval of that half-width that holds an end of the range lies
within X of no effect, so where the spread stays as it was, every outcome is a verdict. Two stages, one look
more (after Stein 1945): a claim that is undecided after its plan stays so.

    FOLDER/NAME/plan.json   the first seeds, what each undecided effect asks for, and the seeds to run
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import stdtrit

from trueup.claims.finding import Effect
from trueup.engine import disk

MOST = 16
"Seeds that a claim is given at most."
FILE = "plan.json"
_HOPELESS = 1000
"Where the search for a number of seeds ends: no claim is given so many."


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What one undecided effect asks for."""

    effect: str
    spread: float
    "Deviation over the first seeds."
    margin: float
    seeds: int
    "By the formula, before the cap; 1000 stands for that many or more."


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The seeds that a claim is measured at, set down after its first ones."""

    first: tuple[int, ...]
    seeds: tuple[int, ...]
    "All of them, the first included."
    asked: tuple[Asked, ...]
    changed: Mapping[str, Any]
    "The settings of the recipe that were not its own."


def half_width(spread: float, n: int) -> float:
    """t_{n−1} s / √n, half of the 95 % t interval of a mean over n seeds."""
    return float(stdtrit(n - 1, 0.975)) * spread / math.sqrt(n)


def seeds_for(spread: float, room: float, first: int) -> int:
    """The least n from `first` on, at most 1000, whose interval is no wider than `room`, X − d."""
    fits = (n for n in range(max(first, 2), _HOPELESS) if 2 * half_width(spread, n) <= room)
    return next(fits, _HOPELESS)


def plan_for(
    effects: Sequence[Effect], first: Sequence[int], changed: Mapping[str, Any] | None = None
) -> Plan | None:
    """The plan of a claim's undecided effects; None where none is, one has no margin, or at 16 seeds."""
    open_ones = [effect for effect in effects if effect.verdict == "undecided"]
    if not open_ones or len(first) >= MOST or not all(effect.by_seed for effect in open_ones):
        return None
    asked = []
    for effect in open_ones:
        if effect.margin is None:
            return None
        spread = float(np.std(effect.by_seed, ddof=1))
        n = seeds_for(spread, effect.room, len(first))
        asked.append(Asked(effect=effect.name, spread=spread, margin=effect.margin, seeds=n))
    # An interval can be undecided at its planned width only by the rounding of s: one seed more at least.
    n = min(MOST, max(len(first) + 1, *(a.seeds for a in asked)))
    more = range(max(first) + 1, max(first) + 1 + n - len(first))
    return Plan(first=tuple(first), seeds=(*first, *more), asked=tuple(asked), changed=dict(changed or {}))


def set_down(plan: Plan, place: Path) -> None:
    """Nothing; the plan is kept in a claim's folder."""
    disk.write(place / FILE, json.dumps(asdict(plan), indent=1, ensure_ascii=False) + "\n")


def kept_plan(place: Path, first: Sequence[int], changed: Mapping[str, Any]) -> Plan | None:
    """The plan that was set down in a claim's folder for these first seeds and settings; None for others."""
    path = place / FILE
    if not path.is_file():
        return None
    row = json.loads(path.read_text(encoding="utf-8"))
    plan = Plan(
        first=tuple(row["first"]),
        seeds=tuple(row["seeds"]),
        asked=tuple(Asked(**asked) for asked in row["asked"]),
        changed=row["changed"],
    )
    return plan if plan.first == tuple(first) and plan.changed == dict(changed) else None
