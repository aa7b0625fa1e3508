"""The commands that run programs a model wrote: the sandbox's own test, and pass@k."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from trueup.commands.early import check_file, check_models
from trueup.commands.options import DrawSeed, Json, Positive, answer, say, write_groups
from trueup.errors import TrueupError, counted


def sandbox(*, as_json: Json = False) -> None:
    """Try to break out of each sandbox on this machine, and say what held."""
    from trueup.sandbox.probes import run_probes
    from trueup.sandbox.trust import broken, named, pick, refusal, refuse_open

    absent = [why for backend in named() if (why := refusal(backend))]
    found = []
    for backend in named():
        tried = [] if refusal(backend) else run_probes(backend)
        found += tried
        if tried and not as_json:
            held = len(tried) - len(broken(tried))
            lines = (
                f"{backend.name}  {'held' if one.held else 'OPEN'}  {one.area:<10} {one.name:<44} {one.how}"
                for one in tried
            )
            say(*lines, f"{backend.name}: {held} of {counted(len(tried), 'probe')} held")
    names = ("backend", "area", "name", "held", "how")
    rows = [{name: getattr(one, name) for name in names} for one in found]
    document = {"probes": rows, "open": broken(found), "absent": absent}
    answer(document, [f"not on this machine: {why}" for why in absent], as_json)
    pick()
    refuse_open(found)


def programs(
    model: str = "",
    /,
    *,
    data: Path | None = None,
    samples: Path | None = None,
    k: Annotated[tuple[Positive, ...], Parameter(negative="")] = (),
    num_samples: Positive = 10,
    limit: Positive | None = None,
    temperature: float = 0.8,
    max_new_tokens: Positive = 512,
    seconds: float = 10.0,
    sandbox: str = "",
    seed: DrawSeed = 0,
    out: Path | None = None,
    as_json: Json = False,
) -> None:
    """Measure pass@k: programs of a model, or of a file, run against their tests in the sandbox.

    Parameters
    ----------
    model
        A model's folder, or world:base; left out with --samples.
    data
        Problems: JSON Lines (or .gz) in the columns of HumanEval or MBPP.
    samples
        Programs written already: groups (as --out writes them), or lines of {task_id, completion}.
    k
        One or more: `--k 1 --k 10`; every k up to the number of programs otherwise.
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
    out
        Write the programs with their scores here, as groups.
    """
    from trueup.sandbox.trust import pick
    from trueup.statistics.estimates import pass_at_k

    if bool(model) == (samples is not None) or not (samples or data):
        raise TrueupError(
            "E702",
            "programs are a model's or a file's",
            where="programs",
            remedy="name a model with --data PROBLEMS, or --samples FILE with --data unless it holds tests",
        )
    for one in () if samples else k:
        pass_at_k(num_samples, 0, one)
    pick(sandbox)
    check_file(data, "a file of HumanEval or MBPP")
    check_file(samples, "a file of programs")
    check_models(model)
    from trueup.coding.pass_rates import measure_programs, measure_samples
    from trueup.evals.printed import estimate

    if samples is not None:
        solved, rates = measure_samples(samples, data, k=k, limit=limit, seconds=seconds, sandbox=sandbox)
    else:
        assert data is not None
        solved, rates = measure_programs(
            model, data, k=k, num_samples=num_samples, limit=limit, temperature=temperature,
            max_new_tokens=max_new_tokens, seconds=seconds, sandbox=sandbox, seed=seed,
        )  # fmt: skip
    write_groups(out, solved.groups)
    found = {name: rate.to_json() for name, rate in rates.items()}
    lines = [f"{name:>9} {estimate(row)}  {counted(row['n'], 'problem')}" for name, row in found.items()]
    lines.append("  ".join(f"{outcome} {count}" for outcome, count in sorted(solved.outcomes.items())))
    answer({**found, "outcomes": solved.outcomes}, lines, as_json)
