"""The command that measures models on prompts of the user's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console

from trueup.commands.early import check_file, check_judge, check_models
from trueup.commands.options import (
    AcceptChanged,
    AnyTemplate,
    Count,
    FullDigests,
    Json,
    NotNegative,
    Positive,
    say,
    say_json,
)
from trueup.errors import printable

Models = Annotated[str, Parameter(help="Models: folders, ids, GGUF files or runs; NAME=MODEL names one.")]
Judges = Annotated[tuple[str, ...], Parameter(negative="", show_default=False)]


def measure(
    *models: Models,
    against: str = "",
    world: str = "",
    prompts: str = "",
    judge: Judges = (),
    truth: str = "",
    split: str = "test",
    num_prompts: Positive = 200,
    samples_per_prompt: Positive = 1,
    best_of: Positive = 1,
    margin: NotNegative = 0.0,
    exams: str = "",
    exam_items: Count = 80,
    max_new_tokens: Positive = 128,
    template: AnyTemplate = None,
    seed: int = 0,
    out: Path = Path("runs/measure"),
    accept_changed_inputs: AcceptChanged = False,
    full_digests: FullDigests = False,
    as_json: Json = False,
) -> None:
    """Measure models on the same held-out prompts: scores, wins, KL, tax, diversity, with 95 % intervals.

    Prompts and judges are those of a world, `--world FILE.yaml`, or are named here: `--prompts FILE --judge
    grade.py:score`. Stop it at any moment; the same command goes on, and what is measured stays measured.

    Parameters
    ----------
    against
        The start: the model that gains, wins, KL and tax are against.
    world
        A world's name or YAML file; otherwise the one that the models' data came from.
    prompts
        Prompts in any format that `trueup data check` knows, in place of a world.
    judge
        `NAME=REFERENCE` or a reference, as `trueup judge` takes them; may be given several times.
    truth
        The judge that is believed, by its name.
    split
        Of the world's prompts.
    num_prompts
        The first so many.
    samples_per_prompt
        Completions of each prompt.
    best_of
        Draw this many samples of a prompt, for the curves of best-of-n up to it.
    margin
        Scores that differ by no more are a tie.
    exams
        Names of the world's exams with commas between, all of them when empty; beside --prompts with their
        files: lambada=lambada.jsonl,my-task.yaml.
    exam_items
        Items of each; 0 sits none.
    max_new_tokens
        Longest completion.
    seed
        Of the samples.
    out
        A folder for the report, measure.json, samples.jsonl and the stages.
    """
    from trueup.measurement.names import check_place, named_exams, named_judges, named_models

    found, start = named_models(models, against)
    check_models(*found.values(), start[1] if start else None)
    judges = named_judges(judge)
    sat = named_exams(exams.split(","))
    check_place(world, prompts, judge, sat)
    _check_files(world, prompts, sat)
    for reference in judges.values():
        check_judge(reference)
    from trueup.measurement.plan import Asked, write_world
    from trueup.measurement.run import measure_in
    from trueup.runs.unchanged import Terms
    from trueup.sources.sample import Decoding

    asked = Asked(
        models=found,
        start=start,
        world=write_world(out, prompts, judges, truth, sat) if prompts else world,
        split=split,
        num_prompts=num_prompts,
        samples_per_prompt=samples_per_prompt,
        best_of=best_of,
        exams=tuple(sat),
        exam_items=exam_items,
        decoding=Decoding(max_new_tokens=max_new_tokens),
        template=template,
        margin=margin,
        seed=seed,
    )
    terms = Terms(accept=accept_changed_inputs, whole=full_digests)
    said, page = measure_in(out, asked, say=(lambda line: None) if as_json else say, terms=terms)
    if as_json:
        say_json(said)
    else:
        _show(said, out, page)


def _check_files(world: str, prompts: str, exams: Mapping[str, str]) -> None:
    if prompts and not Path(prompts).is_dir():
        check_file(Path(prompts), "a file of prompts")
    if world.endswith((".yaml", ".yml")):
        check_file(Path(world), "the YAML file of a world")
    for file in filter(None, exams.values()):
        check_file(Path(file), "the items of an exam, or its task's YAML file")


def _show(said: Mapping[str, Any], out: Path, page: Path) -> None:
    from trueup.measurement.printed import tables

    console = Console(highlight=False, markup=False)
    for line in said["headline"]:
        console.print(printable(line), soft_wrap=True)
    for table in tables(said):
        console.print(table)
    for line in (*said["limits"], *said["notes"]):
        console.print(f"note: {printable(line)}", soft_wrap=True)
    console.print(f"report: {page}", soft_wrap=True)
    console.print(f"numbers: {out}/measure.json, every answer: {out}/samples.jsonl", soft_wrap=True)
