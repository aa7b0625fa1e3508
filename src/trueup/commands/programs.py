"""The commands that run programs a model wrote: the sandbox's own test, and pass@k."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from trueup.commands.measuring import Json, open_view, plain_console, write_groups
from trueup.commands.train import Positive
from trueup.errors import EXIT_REFUSED, TrueupError


def sandbox(*, as_json: Json = False) -> None:
    """Try to break out of the sandbox on this machine, and say what held.

    Parameters
    ----------
    as_json
        Print JSON.
    """
    from trueup.sandbox.probes import run_probes

    console = plain_console()
    found = []
    for probe in run_probes():
        found.append(probe)
        if not as_json:
            state = "held" if probe.held else "OPEN"
            console.print(f"{state}  {probe.area:<10} {probe.name:<44} {probe.how}")
    broken = [f"{probe.area}: {probe.name}" for probe in found if not probe.held]
    if as_json:
        rows = [{"area": p.area, "name": p.name, "held": p.held, "how": p.how} for p in found]
        print(json.dumps({"probes": rows, "open": broken}, indent=1))
    else:
        console.print(f"{len(found) - len(broken)} of {len(found)} probes held")
    if broken:
        raise TrueupError(
            "E952",
            f"the sandbox is open: {'; '.join(broken)}",
            where="sandbox",
            remedy="run no generated code on this machine",
            exit_code=EXIT_REFUSED,
        )


def programs(
    model: str,
    /,
    *,
    data: Path,
    k: Annotated[tuple[Positive, ...], Parameter(negative="")] = (1,),
    num_samples: Positive = 10,
    limit: Positive | None = None,
    temperature: float = 0.8,
    max_new_tokens: Positive = 512,
    seconds: float = 10.0,
    seed: int = 0,
    out: Path | None = None,
    as_json: Json = False,
) -> None:
    """Measure pass@k: programs of a model, run against their tests in the sandbox, with intervals.

    Parameters
    ----------
    model
        A model's folder, or lab:base.
    data
        Problems: JSON Lines (or .gz) in the columns of HumanEval or MBPP.
    k
        One or more: `--k 1 --k 10`.
    num_samples
        Programs to sample for each problem.
    limit
        The first problems only.
    temperature
        Of sampling; 0 decodes greedily.
    max_new_tokens
        Longest program.
    seconds
        For one program and its tests.
    seed
        Of sampling.
    out
        Write the programs with their scores here, as groups.
    as_json
        Print JSON.
    """
    from trueup.evals.pass_rates import solve
    from trueup.evals.programs import read_programs
    from trueup.evals.statistics import pass_at_k
    from trueup.judges.unit_tests import UnitTests
    from trueup.sources.sample import Decoding

    judge = UnitTests(seconds=seconds)
    for one in k:
        pass_at_k(num_samples, 0, one)
    items = read_programs(data)[:limit]
    greedy = temperature == 0
    decoding = Decoding(temperature=temperature or 1.0, greedy=greedy, max_new_tokens=max_new_tokens)
    view = open_view(model)
    solved = solve(view, items, num_samples=num_samples, decoding=decoding, seed=seed, judge=judge)
    write_groups(out, solved.groups)
    rates = {f"pass@{one}": solved.at(one) for one in k}
    if as_json:
        found = {name: rate.to_json() for name, rate in rates.items()}
        print(json.dumps({**found, "outcomes": solved.outcomes}, indent=1))
        return
    console = plain_console()
    for name, rate in rates.items():
        console.print(f"{name:>9} {rate.mean:.3f} [{rate.low:.3f}, {rate.high:.3f}]  {rate.n} problems")
    console.print("  ".join(f"{outcome} {count}" for outcome, count in sorted(solved.outcomes.items())))
