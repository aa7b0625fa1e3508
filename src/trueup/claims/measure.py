"""Claims measured from their names on: the runs that they need, each made once, then what these show."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trueup.claims import reproduce as the_claims
from trueup.claims.experiment import run_experiments
from trueup.claims.planning import Plan, kept_plan
from trueup.comparison.cluster import HERE, Cluster
from trueup.comparison.engine import Engine
from trueup.comparison.engines import engine_of
from trueup.errors import TrueupError
from trueup.runs.signals import stop_requests
from trueup.runs.unchanged import STRICT, Terms

Say = Callable[[str], None]


def measure_claims(
    claim: str | Sequence[str],
    out: Path,
    *,
    seeds: Sequence[int] = (),
    overrides: Mapping[str, Any] | None = None,
    decide: bool = False,
    workers: int = 2,
    cluster: Cluster = HERE,
    say: Say = lambda line: None,
    terms: Terms = STRICT,
) -> list[dict[str, Any]]:
    """What was found of a claim, of several, or of `all`, for those whose runs ended well.

    With `decide` those that are undecided and name a margin are given a plan, and measured again at its
    seeds; a plan that was set down before is followed without being asked for. E718 where the runs of a claim
    that stands alone failed.
    """
    given = dict(overrides or {})

    def made_by(stop_requested: Callable[[], str]) -> Engine:
        return engine_of(cluster, workers, stop_requested, terms)

    names = [claim] if isinstance(claim, str) else list(claim)
    names = the_claims.claims() if names == ["all"] else list(dict.fromkeys(names))
    plans = {}
    for name in names:
        first = tuple(seeds) or the_claims.own_seeds(name)
        plans[name] = kept_plan(out / name.replace("_", "-"), first, given)
    rows = _measured(plans, out, seeds, given, made_by, say)
    if not decide:
        return rows
    more = {row["name"]: plan for row in rows if (plan := the_claims.planned(row, out))}
    for name, plan in more.items():
        say(f"{name}: undecided with {len(plan.first)} seeds; measured at {len(plan.seeds)}")
    again = {row["name"]: row for row in _measured(more, out, seeds, given, made_by, say)}
    return [again.get(row["name"], row) for row in rows]


def _measured(
    plans: Mapping[str, Plan | None],
    out: Path,
    seeds: Sequence[int],
    given: Mapping[str, Any],
    made_by: Callable[[Callable[[], str]], Engine],
    say: Say,
) -> list[dict[str, Any]]:
    """What was found of each claim, at its plan's seeds where it has a plan."""
    experiments = {
        name: the_claims.experiment(name, seeds=plan.seeds if plan else seeds, overrides=given)
        for name, plan in plans.items()
    }
    needed = [found for found in experiments.values() if found is not None]
    trials = {}
    if needed:
        with stop_requests() as stop_requested:
            trials = run_experiments(
                needed,
                out,
                made_by(stop_requested),
                say=say,
                stop_requested=stop_requested,
            )
    rows = []
    for name, found in experiments.items():
        if found is None or found.name in trials:
            made = trials[found.name] if found else ()
            rows.append(the_claims.reproduce(name, out, made, given, plans[name]))
        elif len(plans) == 1:
            raise TrueupError("E718", "a run of the claim failed", where=name, remedy=f"see {out / 'logs'}")
    return rows
