"""Commands about data."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from trueup.commands.options import Json, answer, say
from trueup.errors import EXIT_DATA, counted

Format = Annotated[str, Parameter(help="Name the format instead of having it detected.")]
Part = Annotated[str, Parameter(help="Which split of a data set.")]

Roles = Annotated[
    dict[str, str] | None, Parameter(help="The file's names of roles for ours: `--roles.bing assistant`.")
]
Trimmed = Annotated[
    Literal["none", "end", "both"],
    Parameter(
        help="Leave off turns behind the last answer (end), also answers before the first question (both)."
    ),
]

app = App(name="data", help="Look into data files: what format they are, and every bad row with its remedy.")


@app.command
def check(
    file: str,
    /,
    *,
    format: Format = "auto",
    split: Part = "train",
    columns: dict[str, str] | None = None,
    roles: Roles = None,
    trim: Trimmed = "none",
    quarantine: Path | None = None,
    model: str | None = None,
    template: str | None = None,
    thinking: Literal["on", "off", "keep"] | None = None,
    system: Literal["turn", "fold"] = "turn",
    train_on: Literal["last", "all"] = "last",
    as_json: Json = False,
) -> None:
    """Say what format a file is in, count its rows, and name every bad one by line, field and remedy.

    With `--model`, also every row that the model's chat template cannot show, before training meets it. Exits
    with 65 when a row is bad.

    Parameters
    ----------
    file
        JSONL, JSON, CSV, Parquet or Arrow (.gz too), a folder of them, or a data set's id.
    columns
        The file's names for ours: `--columns.prompt question`; `prompt.text` reads an inner field.
    quarantine
        Write the bad rows here, with their original bytes.
    model
        A folder or id: what its tokenizer and chat template make of each row is looked at too.
    template
        With `--model`: a template by name, where the model brings none.
    thinking
        With `--model`: as `model.thinking` of a run.
    system
        With `--model`: as `model.system` of a run.
    train_on
        With `--model`: as `data.train_on` of a run.
    """
    from trueup import data

    encode = None
    if model is not None:
        from trueup.models.opening import open_chat
        from trueup.settings.blocks import ModelSettings
        from trueup.sources.open import encoder

        settings = ModelSettings(path=model, template=template, thinking=thinking, system=system)
        chat = replace(open_chat(settings), option="--template NAME", folding="--system fold")
        encode = encoder(chat, train_on, alone=True)
    report = data.check(
        file,
        format=format,
        split=split,
        columns=columns,
        roles=roles,
        trim=trim,
        quarantine=quarantine,
        encode=encode,
    )
    answer(report.to_json(), [report.render(limit=50)], as_json)
    if not report.ok:
        sys.exit(EXIT_DATA)


@app.command
def convert(
    source: str,
    target: Path,
    /,
    *,
    format: Format = "auto",
    split: Part = "train",
    columns: dict[str, str] | None = None,
    roles: Roles = None,
    trim: Trimmed = "none",
    max_bad: float = 0.01,
) -> None:
    """Write any readable data as groups: JSONL or Parquet, by the target's suffix.

    Parameters
    ----------
    source
        As for `trueup data check`.
    target
        A .jsonl or .parquet file.
    columns
        As for `trueup data check`.
    max_bad
        Share of bad rows above which nothing is written.
    """
    from trueup import data

    bad = target.with_suffix(".quarantine.jsonl")
    with data.writing(target) as put:
        result = data.read(
            source,
            format=format,
            split=split,
            columns=columns,
            roles=roles,
            trim=trim,
            max_bad=max_bad,
            quarantine=bad,
            into=put,
        )
    written, bad_rows = counted(result.counts.groups, "group"), counted(result.counts.quarantined, "row")
    say(f"{written} written to {target}, {bad_rows} quarantined")
