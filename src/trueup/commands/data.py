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


@app.command
def clean(
    *files: str,
    out: Path,
    against: tuple[str, ...] = (),
    personal: Literal["drop", "redact", "ignore"] = "drop",
    per_user: int | None = None,
    prefix: int | None = None,
    near: float | None = None,
    seed: int = 0,
    as_json: Json = False,
) -> None:
    """Leave out personal, repeated and evaluation prompts, and say why each one left.

    Writes kept.jsonl, dropped.jsonl (row, id, reason) and counts.json.

    Parameters
    ----------
    files
        As for `trueup data check`.
    out
        A new folder.
    against
        Evaluations, each a file: prompts that share 13 words in a row with one are left out.
    personal
        E-mail, phone, card, IBAN, IP: leave the prompt out, replace each by [EMAIL_1], or do not look.
    per_user
        Most prompts of one user (200).
    prefix
        Of prompts that share so many first characters one stays (256).
    near
        Jaccard similarity of runs of three words from which a prompt repeats another (0.8).
    seed
        Which prompts of a prolific user stay.
    """
    from trueup.data.cleaning import Hygiene
    from trueup.data.curation import clean_files
    from trueup.settings.config import build

    given = {"per_user": per_user, "prefix": prefix, "near": near}
    layer = {"personal": personal, **{key: value for key, value in given.items() if value is not None}}
    done = clean_files(files, out, build(Hygiene, layer), against=against, seed=seed)
    lines = [f"  {count:>8}  {why}" for why, count in done.dropped.items()]
    head = f"{counted(done.rows_in, 'row')}: {done.kept} kept, {done.unreadable} unreadable, dropped:"
    answer(done.to_json(), [head, *lines, f"written to {out}"], as_json)


@app.command
def split(
    *files: str,
    out: Path,
    train: float = 0.8,
    validation: float = 0.1,
    test: float = 0.1,
    near: float = 0.8,
    seed: int = 0,
    as_json: Json = False,
) -> None:
    """Split prompts by user: nobody, and no two near-duplicates, on two sides.

    Parameters
    ----------
    files
        As for `trueup data check`.
    out
        A new folder: train.jsonl, validation.jsonl, test.jsonl, and split.json with their digests.
    train
        Share of the users, about: a user's side is drawn by the name.
    validation
        As train.
    test
        As train.
    near
        Jaccard similarity of runs of three words from which prompts stay together.
    seed
        Another seed draws other sides.
    """
    from trueup.data.curation import split_files

    fractions = {"train": train, "validation": validation, "test": test}
    made = split_files(files, out, fractions, near=near, seed=seed)
    lines = [f"{name}: {counted(s['groups'], 'group')}, {s['digest']}" for name, s in made["splits"].items()]
    answer(made, [*lines, f"written to {out}"], as_json)


@app.command
def redact(file: str, /, *, out: Path, as_json: Json = False) -> None:
    """Replace e-mail, phone, card, IBAN and IP by [EMAIL_1] and so on; one keeps its number in a row.

    Names of people are not looked for.

    Parameters
    ----------
    file
        As for `trueup data check`; rows keep their keys.
    out
        A .jsonl file.
    """
    from trueup.data.curation import redact_file

    counts = redact_file(file, out)
    said = ", ".join(f"{count} {kind}" for kind, count in counts.items()) or "nothing found"
    answer(counts, [f"{said}; written to {out}; names of people are not looked for"], as_json)


@app.command
def stats(
    file: str, /, *, beside: str | None = None, card: Path | None = None, as_json: Json = False
) -> None:
    """Show what prompts are for, how long and in which language they are, beside InstructGPT's mix.

    Use cases are told by rules in English, languages by script and stop words.

    Parameters
    ----------
    file
        As for `trueup data check`.
    beside
        A second file, say users' prompts: how far the two have drifted apart.
    card
        Write a data card here: README.md with the front matter of the Hugging Face hub.
    """
    from trueup.data import mix, read
    from trueup.engine import disk

    found = mix.mix(read(file).groups)
    other = mix.mix(read(beside).groups) if beside is not None else None
    if card is not None:
        disk.write(card, mix.card(Path(file).stem, found))
    document = {"here": found.to_json(), "instructgpt": dict(mix.INSTRUCTGPT)}
    if other is not None:
        document["beside"] = other.to_json()
        document["drift"] = {
            "cases": mix.drift(found.cases, other.cases),
            "languages": mix.drift(found.languages, other.languages),
        }
    answer(document, mix.table(found, other), as_json)
