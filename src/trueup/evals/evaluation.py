"""Evaluation from start to end: open the model, sit the tasks, and put the figures into one document."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from trueup.engine.groups import Message
from trueup.errors import TrueupError
from trueup.evals.at_hand import at_hand
from trueup.evals.figures import Figure, Sample, figure_items, figure_rows
from trueup.evals.lm_eval import Harness
from trueup.evals.papers import NO_SHOTS, Paper, Shots, papers
from trueup.evals.scorecard import Examiner, Result, examiner, item_rows, rows_of, sit
from trueup.evals.task_files import shipped
from trueup.evals.tasks import Advance
from trueup.evals.view import open_view
from trueup.models.opening import pick_device
from trueup.settings.weights import model_folder
from trueup.worlds import World, came_from, open_world, world_of

Dtype = Literal["float32", "bfloat16", "float64"]
Watch = Callable[[str, int], AbstractContextManager[Advance]]
"(what is done, how many items) to a display that is told of items as they are done."
_PACKAGES = ("trueup", "torch", "transformers")


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """The figures as `eval.json` holds them, and the items behind each task."""

    document: dict[str, Any]
    items: dict[str, list[dict[str, Any]]]


def evaluate_on(
    model: str,
    names: Sequence[str] = (),
    *,
    world: str = "",
    data: Mapping[str, str] = {},
    against: str | None = None,
    prefix: Sequence[Message] = (),
    template: str | None = None,
    split: str = "test",
    limit: int | None = None,
    shots: Shots = NO_SHOTS,
    max_new_tokens: int | None = None,
    engine: Literal["trueup", "lm-eval"] = "trueup",
    include: Path | None = None,
    dtype: Dtype = "float32",
    seed: int = 0,
    watch: Watch = lambda label, total: nullcontext(lambda count: None),
) -> Evaluated:
    """A model on tasks, with `against` also the difference by item.

    Where none is named these are the exams of the world that its data came from; for a model of no world,
    the tasks whose items are here, and the document says under `missing` what the others lack.
    With the engine `lm-eval`, names of task files are our items scored by what the harness says about them,
    and other names, or all with `include`, are tasks of its own. `watch` shows the progress of each task.
    Raises what `papers` and the engines raise, E715 for `include` without the harness, E702 for what the
    harness's own tasks do not take. `prefix` is put before every item for the model, not for
    `against`; `template` names a chat template where a model brings none.
    """
    harness = engine == "lm-eval"
    names, missing = _asked(names, model, data, named=harness or bool(world))
    ours, theirs = _whose(names, harness, include, prefix)
    _check_settled(theirs, bool(shots.num) or max_new_tokens is not None or bool(data and not ours))
    sheets: dict[str, Paper] = {}
    if ours or not names:
        sheets = papers(
            ours,
            world=world_of_exams(world, model, ours),
            data=data,
            split=split,
            limit=limit,
            shots=shots,
            max_new_tokens=max_new_tokens,
            seed=seed,
        )
    models = {"model": model_folder(model)} | ({"against": model_folder(against)} if against else {})
    lead = {"model": tuple(prefix), "against": ()}
    sat: dict[str, dict[str, Result]] = {}
    own: dict[str, _Own] = {}
    for who, reference in models.items():
        run = _harness(reference, dtype) if harness else None
        if run:
            sitter = _through(run)
        else:
            view = open_view(who, reference, dtype=dtype, template=template, prefix=lead[who])
            sitter = examiner(view)
        label = f", {who}" if against else ""
        sat[who] = _sit_all(sitter, sheets, seed, watch, label)
        if run and theirs:
            with watch(", ".join(theirs) + label, 0):
                own[who] = _Own(*run.own_tasks(theirs, include, limit=limit), context=run.context)
    other = sat.get("against", {})
    rows = [row for name, found in sat["model"].items() for row in rows_of(found, other.get(name), seed)]
    lines = {name: item_rows(found, other.get(name)) for name, found in sat["model"].items()}
    more, items = _own_rows(own.get("model"), own.get("against"), seed)
    document = {
        "model": model,
        "against": against,
        "engine": engine,
        "prefix": [{"role": str(m.role), "content": m.content} for m in prefix],
        "dtype": dtype,
        "seed": seed,
        "versions": {name: metadata.version(name) for name in (*_PACKAGES, *["lm-eval"] * harness)},
        "tasks": rows + more,
        **missing,
    }
    return Evaluated(document=document, items=lines | items)


def _asked(
    names: Sequence[str], model: str, data: Mapping[str, str], *, named: bool
) -> tuple[Sequence[str], dict[str, Any]]:
    """The tasks to sit, and what others lack: of a model of no world, with none named, those at hand."""
    if names or named or came_from(model_folder(model)) is not None:
        return names, {}
    ready, missing = at_hand(data)
    return ready, {"missing": missing} if missing else {}


def world_of_exams(named: str, model: str, names: Sequence[str]) -> World | None:
    """The world whose exams are sat: the one that is named, or that the model's data came from.

    Tasks that are named need none.
    """
    folder = model_folder(model)
    if named or not names:
        return world_of(named, folder, where="exams")
    known = came_from(folder)
    return open_world(known) if known else None


def _whose(
    names: Sequence[str], harness: bool, include: Path | None, prefix: Sequence[Message]
) -> tuple[list[str], list[str]]:
    """The names that are task files of ours, and those that the harness knows."""
    if harness and prefix:
        raise TrueupError(
            "E702", "lm-eval puts no dialogues before its items", remedy="leave --engine or --dialogues out"
        )
    if include is not None and not harness:
        raise TrueupError("E715", "only lm-eval reads its own task files", remedy="add --engine lm-eval")
    if harness and not names:
        raise TrueupError("E713", "lm-eval has no tasks by default", where="tasks", remedy="name some")
    ours = [n for n in names if not harness or (include is None and _is_file(n))]
    return ours, [n for n in names if n not in ours]


def _check_settled(tasks: Sequence[str], more: bool) -> None:
    """Raises E702 where `more` is asked of one of the harness's own tasks than it lets be chosen."""
    if more and tasks:
        raise TrueupError(
            "E702",
            "lm-eval's own tasks have their own items, demonstrations and lengths",
            where=f"task {tasks[0]}",
            remedy="leave --data, --shots and --max-new-tokens out, or evaluate it apart",
        )


def _is_file(name: str) -> bool:
    return name in shipped() or name.endswith((".yaml", ".yml"))


def _harness(reference: str, dtype: Dtype) -> Harness:
    return Harness.of(reference, dtype=dtype, device=str(pick_device("auto")))


def _through(harness: Harness) -> Examiner:
    """How the harness examines: its log-probabilities, our scores."""

    def examine(task: Any, items: Any, seed: int, advance: Advance) -> Any:
        evidence = harness.evidence(task, items)
        advance(len(items))
        return task.score.values(evidence, items), evidence

    return Examiner(examine=examine, context=harness.context)


def _sit_all(
    sitter: Examiner, sheets: Mapping[str, Paper], seed: int, watch: Watch, label: str
) -> dict[str, Result]:
    found = {}
    for name, paper in sheets.items():
        with watch(name + label, sum(map(len, paper.draws))) as advance:
            found[name] = sit(sitter, paper, seed, advance)
    return found


@dataclass(frozen=True, eq=False)
class _Own:
    """What the harness said of one model on its own tasks."""

    figures: list[Figure]
    samples: dict[str, list[Sample]]
    context: int


def _own_rows(
    ours: _Own | None, other: _Own | None, seed: int
) -> tuple[list[dict[str, Any]], dict[str, list[dict[str, Any]]]]:
    """The rows and items of the harness's own tasks; none where it ran none."""
    if ours is None:
        return [], {}
    if other is None:
        return figure_rows(ours.figures, context=ours.context), figure_items(ours.samples)
    rows = figure_rows(
        ours.figures,
        other.figures,
        context=ours.context,
        against_context=other.context,
        seed=seed,
    )
    return rows, figure_items(ours.samples, other.samples)
