"""Claims measured from their names on: the runs that they need, each made once, then what these show."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trueup.claims import reproduce as the_claims
from trueup.claims.experiment import run_experiments
from trueup.comparison.engine import LocalProcesses
from trueup.errors import TrueupError
from trueup.runs.signals import stop_requests
from trueup.runs.unchanged import STRICT, Terms


def measure_claims(
    claim: str,
    out: Path,
    *,
    seeds: Sequence[int] = (),
    overrides: Mapping[str, Any] | None = None,
    workers: int = 2,
    say: Callable[[str], None] = lambda line: None,
    terms: Terms = STRICT,
) -> list[dict[str, Any]]:
    """What was found of a claim, or of `all` whose runs ended well. E718 where one claim's runs failed."""
    names = the_claims.claims() if claim == "all" else [claim]
    given = dict(overrides or {})
    experiments = {name: the_claims.experiment(name, seeds=seeds, overrides=given) for name in names}
    needed = [found for found in experiments.values() if found is not None]
    trials = {}
    if needed:
        with stop_requests() as stop_requested:
            trials = run_experiments(
                needed,
                out,
                LocalProcesses(workers, stop_requested, terms),
                say=say,
                stop_requested=stop_requested,
            )
    rows = []
    for name, found in experiments.items():
        if found is None or found.name in trials:
            rows.append(the_claims.reproduce(name, out, trials[found.name] if found else (), given))
        elif len(names) == 1:
            raise TrueupError("E718", "a run of the claim failed", where=name, remedy=f"see {out / 'logs'}")
    return rows
