"""The command that evaluates a model on tasks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from rich.console import Console

from trueup.commands.early import check_models
from trueup.commands.options import Context, Count, Json, Positive, Speaker, Split, estimate

if TYPE_CHECKING:
    from rich.table import Table

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

    Without `--tasks` it sits the exams of the world that its data came from, or of `--world`.

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
    from trueup.evals.evaluation import evaluate_on
    from trueup.evals.papers import Shots
    from trueup.evals.scorecard import write_out
    from trueup.runs.meter import progress
    from trueup.sources.context import open_context

    found = evaluate_on(
        model,
        tuple(name.strip() for name in tasks.split(",") if name.strip()),
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
        print(json.dumps(found.document, indent=1, ensure_ascii=False))
        return
    console = Console(highlight=False, markup=False)
    console.print(table_of(found.document))
    for row in found.document["tasks"]:
        for line in notes(row, found.document):
            console.print(line, soft_wrap=True)
    if out is not None:
        console.print(f"every item: {out}/items", soft_wrap=True)


def table_of(document: Mapping[str, Any]) -> Table:
    """The figures of an evaluation, one row for each task; it fits a terminal of 80 columns.

    Metric and chance stand in it where no other policy does, and the metric after a task that has several;
    these and versions are in what `--out` and `--json` write.
    """
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    compared = document["against"] is not None
    heads = ("value", "other", "difference", "") if compared else ("metric", "value", "chance")
    for head in ("task", "n", *heads):
        # A narrow terminal folds words, never a number.
        words = head in ("task", "metric")
        table.add_column(head, justify="right" if head == "n" else "left", no_wrap=not words, overflow="fold")
    names = [row["task"] for row in document["tasks"]]
    for row in document["tasks"]:
        cells = [row["task"], str(row["items"])]
        if compared:
            cells[0] += f" {row['metric']}" * (names.count(row["task"]) > 1)
            gap = row.get("difference")
            other = f"{row['against']['mean']:.3f}" if "against" in row else "–"
            cells += [f"{row['value']['mean']:.3f}", other]
            cells += (
                ["–", ""] if gap is None else [estimate(gap, "+.3f"), gap["verdict"].removesuffix(" seen")]
            )
        else:
            chance = "–" if row["chance"] is None else f"{row['chance']:.3f}"
            cells += [row["metric"], estimate(row["value"]), chance]
        table.add_row(*cells)
    return table


@contextmanager
def _announced(task: str, total: int) -> Iterator[Callable[[int], None]]:
    """Names the task on stderr and shows nothing more."""
    Console(stderr=True, highlight=False, markup=False).print(f"{task} ...")
    yield lambda count: None


def notes(row: Mapping[str, Any], document: Mapping[str, Any]) -> list[str]:
    """What the table has no room for: items that were cut, other figures, how was sampled, demonstrations."""
    lines = []
    for key, model in (("cut", document["model"]), ("against_cut", document["against"])):
        cut = row.get(key)
        if cut and cut["items"]:
            whose = f" for {model}" if document["against"] else ""
            lines.append(f"{cut['items']} of {row['items']} items cut to {cut['context']} tokens{whose}")
    if row["also"]:
        lines.append(", ".join(f"{name} {value:.4g}" for name, value in row["also"].items()))
    if "left_out" in row:
        rest = f"; {row['left_out']} items are in no whole group" if row["left_out"] else ""
        lines.append(f"n counts groups of items that must all be right{rest}")
    if "sampling" in row:
        lines.append(_sampled(row["sampling"], document["seed"]))
    if "shots" in row:
        shots = row["shots"]
        spread = "" if shots["sd"] is None else f", standard deviation between draws {shots['sd']:.3f}"
        means = ", ".join(f"{mean:.3f}" for mean in shots["means"])
        lines.append(f"{len(shots['rows'][0])} demonstrations, means of draws {means}{spread}")
    if "against" in row and row["difference"] is None:
        lines.append("not paired: the figure is no mean over items")
    return [f"{row['task']}: {line}" for line in lines]


def _sampled(how: Mapping[str, Any], seed: int) -> str:
    count = f"{how['samples']} sample{'s' * (how['samples'] > 1)}, up to {how['max_new_tokens']} tokens"
    if how.get("greedy"):
        return f"{count}, greedy"
    shown = [
        f"{name.replace('_', '-')} {how[name]:g}" for name in ("temperature", "top_k", "top_p") if name in how
    ]
    return f"{count}, {', '.join(shown)}, seed {seed}"
