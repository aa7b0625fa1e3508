"""The command `reproduce`: claims of the field, measured again."""

from __future__ import annotations

import sys
from itertools import takewhile
from pathlib import Path
from typing import Any

from rich.console import Console

from trueup.commands.options import (
    AcceptChanged,
    Flag,
    FullDigests,
    Json,
    OnCluster,
    Overrides,
    Workers,
    say_json,
)

CLAIMS = Path("runs/claims")


def reproduce(
    claim: str | None = None,
    /,
    *further: Overrides,
    seeds: str = "",
    out: Path = CLAIMS,
    decide: Flag = False,
    workers: Workers = 2,
    cluster: OnCluster = "",
    accept_changed_inputs: AcceptChanged = False,
    full_digests: FullDigests = False,
    as_json: Json = False,
) -> None:
    """Measure a claim of the field again: its effects, their intervals, a verdict and a picture.

    Without a name, lists the claims, what was found of them before and what a seed costs; several names, or
    `all`, measure as many. Runs that two claims share are made once; stop it at any moment and the same
    command goes on.
    `--STAGE.key.path VALUE` changes a setting of a claim's recipe, so it can be tried on another model or
    other data. Exit code 1 when a claim does not hold here.

    Parameters
    ----------
    claim
        A claim's name, as `kl-directions`, or `all`.
    seeds
        The seeds of its runs, as `1,2,3`; its own otherwise.
    out
        The folder of all claims; each has its own below it.
    decide
        Give those that stay undecided, and name a margin, the seeds that the spread of the first asks for,
        16 at most: set down in plan.json, then run.
    """
    from trueup.comparison.cluster import read_cluster

    where = read_cluster(cluster)
    from trueup.settings.config import parse_overrides

    console = Console(highlight=False, soft_wrap=True)
    if claim is None:
        _list(console, out, as_json)
        return
    from trueup.claims.measure import measure_claims
    from trueup.runs.unchanged import Terms

    more = list(takewhile(lambda word: not word.startswith("-"), further))
    given = dict(parse_overrides(list(further[len(more) :])).values)
    chosen = [int(seed) for seed in seeds.split(",")] if seeds else []
    aside = Console(highlight=False, markup=False, soft_wrap=True, stderr=True)
    terms = Terms(accept=accept_changed_inputs, whole=full_digests)
    rows = measure_claims(
        [claim, *more],
        out,
        seeds=chosen,
        overrides=given,
        decide=decide,
        workers=workers,
        cluster=where,
        say=aside.print,
        terms=terms,
    )
    if as_json:
        say_json(rows if claim == "all" or more else rows[0])
    else:
        for row in rows:
            _show(console, row, out)
    if any(row["verdict"] == "does not hold here" for row in rows):
        sys.exit(1)


def _list(console: Console, out: Path, as_json: bool) -> None:
    """Nothing; says what is known of each claim."""
    from rich.table import Table

    from trueup.claims import reproduce as the_claims

    rows = the_claims.listing(out)
    if as_json:
        say_json(rows)
        return
    table = Table("claim", "what it says", "verdict", "seeds", "minutes", box=None, pad_edge=False)
    for row in rows:
        minutes = "" if row["minutes"] is None else f"{row['minutes']:.2g}"
        verdict = the_claims.verdict_of(row) or "not measured"
        number = str(len(row.get("seeds") or the_claims.own_seeds(row["name"])))
        table.add_row(f"[bold]{row['name']}[/]", row["claim"], verdict, number, minutes)
    console.print(table)
    console.print(
        f"\nVerdicts are those kept in {out}; `trueup reproduce NAME` measures one, `all` every one.\n"
        "Minutes are those of one seed on one core where nothing is shared with another claim."
    )


def _show(console: Console, row: dict[str, Any], out: Path) -> None:
    from rich.table import Table

    from trueup.claims import reproduce as the_claims

    console.print(f"{row['claim']} [bold]{the_claims.sentence_of(row)}[/]", markup=True)
    table = Table("effect", "measured", "claimed", "verdict", box=None, pad_edge=False)
    for effect in the_claims.effects_of(row):
        wanted = f"{the_claims.between(effect.wanted)} {effect.unit}"
        table.add_row(effect.name, the_claims.measured(effect), wanted, effect.verdict)
    console.print(table)
    console.print(f"picture: {out / row['name'] / 'index.html'}", markup=False)
