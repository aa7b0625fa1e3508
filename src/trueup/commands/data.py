"""Commands about data."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from rich.console import Console

from trueup import data
from trueup.errors import EXIT_DATA

app = App(name="data", help="Look into data files: what format they are, and every bad row with its remedy.")


@app.command
def check(
    file: str,
    /,
    *,
    format: str = "auto",
    split: str = "train",
    columns: dict[str, str] | None = None,
    quarantine: Path | None = None,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Say what format a file is in, count its rows, and name every bad one by line, field and remedy.

    Exits with 65 when a row is bad.

    Parameters
    ----------
    file
        JSONL, JSON, CSV, Parquet or Arrow (.gz too), a folder of them, or a data set's id.
    format
        Name the format instead of having it detected.
    split
        Which split of a data set.
    columns
        The file's names for ours: `--columns.prompt question`; `prompt.text` reads an inner field.
    quarantine
        Write the bad rows here, with their original bytes.
    as_json
        Print JSON.
    """
    report = data.check(file, format=format, split=split, columns=columns, quarantine=quarantine)
    if as_json:
        print(json.dumps(report.to_json(), indent=1, ensure_ascii=False))
    else:
        Console(highlight=False, soft_wrap=True).print(report.render(limit=50), markup=False)
    if not report.ok:
        sys.exit(EXIT_DATA)


@app.command
def convert(
    source: str,
    target: Path,
    /,
    *,
    format: str = "auto",
    split: str = "train",
    columns: dict[str, str] | None = None,
    max_bad: float = 0.01,
) -> None:
    """Write any readable data as groups: JSONL or Parquet, by the target's suffix.

    Parameters
    ----------
    source
        As for `trueup data check`.
    target
        A .jsonl or .parquet file.
    format
        Name the format instead of having it detected.
    split
        Which split of a data set.
    columns
        As for `trueup data check`.
    max_bad
        Share of bad rows above which nothing is written.
    """
    bad = target.with_suffix(".quarantine.jsonl")
    result = data.read(source, format=format, split=split, columns=columns, max_bad=max_bad, quarantine=bad)
    data.write(target, result.groups)
    print(f"{len(result.groups)} groups written to {target}, {len(result.problems)} rows quarantined")
