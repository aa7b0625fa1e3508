"""The commands that run programs a model wrote: the sandbox's own test, and pass@k."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from trueup.commands.measuring import Json, plain_console, write_groups
from trueup.commands.train import Positive


def sandbox(*, as_json: Json = False) -> None:
    """Try to break out of each sandbox on this machine, and say what held.

    Parameters
    ----------
    as_json
        Print JSON.
    """
    from trueup.sandbox.probes import run_probes
    from trueup.sandbox.trust import broken, named, pick, refusal, refuse_open

    console = plain_console()
    absent = [why for backend in named() if (why := refusal(backend))]
    found = []
    for backend in named():
        tried = [] if refusal(backend) else run_probes(backend)
        found += tried
        if tried and not as_json:
            for one in tried:
                state = "held" if one.held else "OPEN"
                console.print(f"{backend.name}  {state}  {one.area:<10} {one.name:<44} {one.how}")
            held = len(tried) - len(broken(tried))
            console.print(f"{backend.name}: {held} of {len(tried)} probes held")
    if as_json:
        names = ("backend", "area", "name", "held", "how")
        rows = [{name: getattr(one, name) for name in names} for one in found]
        print(json.dumps({"probes": rows, "open": broken(found), "absent": absent}, indent=1))
    else:
        for why in absent:
            console.print(f"not on this machine: {why}")
    pick()
    refuse_open(found)


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
    sandbox: str = "",
    seed: int = 0,
    out: Path | None = None,
    as_json: Json = False,
) -> None:
    """Measure pass@k: programs of a model, run against their tests in the sandbox, with intervals.

    Parameters
    ----------
    model
        A model's folder, or world:base.
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
    sandbox
        bubblewrap or landlock; the strongest that works here where none is named.
    seed
        Of sampling.
    out
        Write the programs with their scores here, as groups.
    as_json
        Print JSON.
    """
    from trueup.programs.pass_rates import measure_programs

    solved, rates = measure_programs(
        model, data, k=k, num_samples=num_samples, limit=limit, temperature=temperature,
        max_new_tokens=max_new_tokens, seconds=seconds, sandbox=sandbox, seed=seed,
    )  # fmt: skip
    write_groups(out, solved.groups)
    if as_json:
        found = {name: rate.to_json() for name, rate in rates.items()}
        print(json.dumps({**found, "outcomes": solved.outcomes}, indent=1))
        return
    console = plain_console()
    for name, rate in rates.items():
        console.print(f"{name:>9} {rate.mean:.3f} [{rate.low:.3f}, {rate.high:.3f}]  {rate.n} problems")
    console.print("  ".join(f"{outcome} {count}" for outcome, count in sorted(solved.outcomes.items())))
