"""The command that evaluates a model on tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from rich.console import Console

from trueup.commands.early import check_file, check_models
from trueup.commands.options import Context, Count, Json, Positive, Speaker, Split, say_json
from trueup.errors import printable

Files = Annotated[dict[str, str] | None, Parameter(show_default=False)]


def evaluate(
    model: Speaker,
    /,
    *,
    tasks: str = "",
    data: Files = None,
    against: str | None = None,
    world: str = "",
    limit: Positive | None = None,
    shots: Count = 0,
    draws: Positive = 1,
    demonstrations: Files = None,
    max_new_tokens: Positive | None = None,
    dialogues: Count = 0,
    context: Context = "world:hhh",
    template: str | None = None,
    split: Split = "test",
    engine: Literal["trueup", "lm-eval"] = "trueup",
    include: Path | None = None,
    dtype: Literal["float32", "bfloat16", "float64"] = "float32",
    seed: int = 0,
    out: Path | None = None,
    as_json: Json = False,
) -> None:
    """Evaluate a model on tasks, with 95 % intervals; against another one, with what was gained or lost.

    Without `--tasks` it sits the exams of the world that its data came from, or of `--world`; a model of no
    world sits the tasks whose items are here: files of `--data`, and data sets that were fetched before.

    Parameters
    ----------
    tasks
        Names with commas between, or paths of task files: lambada,hellaswag,my-task.yaml.
    data
        Where a task's items are, in place of what its file says: --data.lambada FILE.
    against
        Another model: differences on the same items, `tax` below 0 and `bonus` above.
    world
        Whose exams: a world's name or YAML file.
    limit
        The first items of each task only.
    shots
        Demonstrations before every item.
    draws
        Sets of demonstrations to average over.
    demonstrations
        Where a task's demonstrations are: --demonstrations.hellaswag FILE.
    max_new_tokens
        Longest completion of tasks that sample, in place of each task's own.
    dialogues
        Dialogues of an HHH prompt to put before every item; not for the model of --against.
    template
        A chat template by name, where a model brings none; hh goes with every tokenizer.
    split
        Of the world's exams.
    engine
        What computes the numbers.
    include
        With `--engine lm-eval`: a folder of its own task files; only these are known then.
    dtype
        Precision of the model.
    seed
        Of demonstrations, samples and the bootstrap.
    out
        A folder for eval.json and, for every task, a line for each item.
    """
    check_models(model, against)
    names = tuple(filter(None, map(str.strip, tasks.split(","))))
    _check_files(names, {**(data or {}), **(demonstrations or {})})
    from trueup.evals.evaluation import evaluate_on
    from trueup.evals.papers import Shots
    from trueup.evals.scorecard import write_out
    from trueup.runs.meter import progress
    from trueup.sources.context import open_context

    found = evaluate_on(
        model,
        names,
        world=world,
        data=data or {},
        against=against,
        prefix=open_context(context, dialogues) if dialogues else (),
        template=template,
        split=split,
        limit=limit,
        shots=Shots(num=shots, draws=draws, pools=demonstrations or {}),
        max_new_tokens=max_new_tokens,
        engine=engine,
        include=include,
        dtype=dtype,
        seed=seed,
        # lm-eval draws its own bars.
        watch=_announced if engine == "lm-eval" else lambda task, total: progress(total, task),
    )
    if out is not None:
        write_out(out, found.document, found.items)
    if as_json:
        say_json(found.document)
    else:
        _show(found.document, out)


def _show(document: Mapping[str, Any], out: Path | None) -> None:
    from trueup.evals.at_hand import told
    from trueup.evals.printed import notes, table_of

    console = Console(highlight=False, markup=False)
    console.print(table_of(document))
    for row in document["tasks"]:
        for line in notes(row, document):
            console.print(printable(line), soft_wrap=True)
    if "missing" in document:
        console.print(f"not sat, as their items are not here: {told(document['missing'])}", soft_wrap=True)
    if out is not None:
        console.print(f"every item: {out}/items", soft_wrap=True)


def _check_files(tasks: Iterable[str], items: Mapping[str, str]) -> None:
    """Nothing; raises E801 for a task's file that is not there, or what would be waited for: a pipe."""
    for name in tasks:
        check_file(Path(name) if name.endswith((".yaml", ".yml")) else None, "a task's YAML")
    for path in map(Path, items.values()):  # or a hub's id, or a door
        check_file(path if path.exists() and not path.is_dir() else None)


@contextmanager
def _announced(task: str, total: int) -> Iterator[Callable[[int], None]]:
    """Names the task on stderr and shows nothing more."""
    Console(stderr=True, highlight=False, markup=False).print(f"{printable(task)} ...")
    yield lambda count: None
