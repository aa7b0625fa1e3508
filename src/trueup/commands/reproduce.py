"""The command `reproduce`: claims of the field, measured again."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

CLAIMS = Path("runs/claims")


def reproduce(
    claim: str | None = None,
    /,
    *,
    out: Path = CLAIMS,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Measure a claim of the field again: its effects, their intervals, a verdict and a picture.

    Without a name, lists the claims and what was found of them before. Exit code 1 when the claim fails.

    Parameters
    ----------
    claim
        A claim's name: `kl-directions`.
    out
        The folder of all claims; each has its own below it.
    as_json
        Print JSON.
    """
    from trueup import reproduce as the_claims

    console = Console(highlight=False, soft_wrap=True)
    if claim is None:
        rows = [
            the_claims.kept(name, out) or {**the_claims.about(name), "verdict": None}
            for name in the_claims.claims()
        ]
        if as_json:
            print(json.dumps(rows, indent=1, ensure_ascii=False))
            return
        table = Table("claim", "what it says", "verdict", box=None, pad_edge=False)
        for row in rows:
            table.add_row(f"[bold]{row['name']}[/]", row["claim"], row["verdict"] or "not measured")
        console.print(table)
        return
    row = the_claims.reproduce(claim, out)
    if as_json:
        print(json.dumps(row, indent=1, ensure_ascii=False))
    else:
        console.print(f"{row['claim']} [bold]{row['verdict']}[/]", markup=True)
        table = Table("effect", "measured", "claimed", "verdict", box=None, pad_edge=False)
        for found in row["effects"]:
            effect = the_claims.Effect(**{k: v for k, v in found.items() if k != "verdict"})
            wanted = f"{the_claims.between(effect.wanted)} {effect.unit}"
            table.add_row(effect.name, the_claims.measured(effect), wanted, effect.verdict)
        console.print(table)
        console.print(f"picture: {out / row['name'] / 'index.html'}", markup=False)
    if row["verdict"] == "fails":
        sys.exit(1)
