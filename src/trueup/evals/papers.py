"""The tasks that names and files mean, with their items: files, tasks that sample, a world's exams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from trueup.engine.groups import Group
from trueup.errors import TrueupError
from trueup.evals.benchmarks import items_of, with_shots
from trueup.evals.entries import Entry, sampling_entries
from trueup.evals.exams import Exam
from trueup.evals.task_files import TaskFile, expanded, find_task, shipped
from trueup.evals.tasks import Task
from trueup.worlds import World, lead, leads_to


@dataclass(frozen=True, kw_only=True)
class Shots:
    """Demonstrations before every item."""

    num: int = 0
    draws: int = 1
    "So many sets of them; what is reported is the mean over sets, with the spread."
    pools: Mapping[str, str] = field(default_factory=dict)
    "Where each task's demonstrations come from, in place of what its file says."


NO_SHOTS = Shots()


@dataclass(frozen=True, kw_only=True, eq=False)
class Paper:
    """A task with the items of each draw of demonstrations."""

    task: Task
    draws: Sequence[Sequence[Group]]
    shots: Sequence[Sequence[str]] = ((),)
    "The demonstrations of each draw, by their rows' places."
    note: str = ""
    "What stands below every table with the figure."
    from_file: bool = True
    "Whether the items are a file's; the others are a world's own."


def papers(
    names: Sequence[str],
    *,
    world: World | None = None,
    data: Mapping[str, str] = {},
    split: str = "test",
    limit: int | None = None,
    shots: Shots = NO_SHOTS,
    max_new_tokens: int | None = None,
    seed: int = 0,
) -> dict[str, Paper]:
    """The tasks of some names or files, with their items; the world's exams where none is named.

    With `max_new_tokens` the tasks that sample take it as the longest completion, in place of their own.
    Raises E763 without a name and a world, E745 for a task that there is not, E746 for data of a task that
    takes none or is not asked for, E702 for demonstrations of one that takes none or a length where none
    samples, and what reading the items raises.
    """
    if not names and world is None:
        raise TrueupError("E763", "there are no exams", where="tasks", remedy="name some tasks, or a world")
    found = {} if names or world is None else _worlds_papers(world, (), split, limit)
    data = {task: path for name, path in data.items() for task in expanded([name])}
    for name in expanded(names):
        if name in shipped() or name.endswith((".yaml", ".yml")):
            papers = [_file_paper(name, data, limit, shots, seed, world)]
        elif name in sampling_entries():
            papers = [_sampling_paper(sampling_entries()[name], data.get(name, ""), limit)]
        else:
            papers = _worlds_paper(name, world, split, limit)
        found |= {paper.task.name: paper for paper in papers}
    _check_takes(found, data, shots)
    return found if max_new_tokens is None else _of_length(found, max_new_tokens)


def _of_length(found: Mapping[str, Paper], longest: int) -> dict[str, Paper]:
    if not any(paper.task.samples for paper in found.values()):
        reason = "no task that is asked for samples"
        raise TrueupError("E702", reason, where="max_new_tokens", remedy="leave it out")
    return {name: replace(paper, task=paper.task.of_length(longest)) for name, paper in found.items()}


def _check_takes(found: Mapping[str, Paper], data: Mapping[str, str], shots: Shots) -> None:
    """Raises E746 for a file that no task reads, E702 for demonstrations of a task that takes none."""
    for kind, given in (("data", data), ("demonstrations", shots.pools)):
        for name in given:
            if name not in found:
                raise TrueupError(
                    "E746",
                    f"--{kind}.{name} is for no task that is asked for",
                    where="tasks",
                    remedy=f"asked for: {', '.join(found)}",
                )
    for name, paper in found.items():
        if name in data and not paper.from_file:
            raise TrueupError(
                "E746",
                "the task has the world's own items",
                where=f"task {name}",
                remedy=f"drop --data.{name}",
            )
        if shots.num and not paper.shots[0]:
            raise TrueupError(
                "E702", "the task takes no demonstrations", where=f"task {name}", remedy="leave --shots out"
            )


def _sampling_paper(entry: Entry, path: str, limit: int | None) -> Paper:
    """A task that samples, on its file."""
    assert entry.read is not None
    if not path:
        name = entry.task.name
        raise TrueupError(
            "E746",
            f"the task has no items of its own; its rows are {entry.rows.replace('`', '')}",
            where=f"task {name}",
            remedy=f"give --data.{name} FILE",
        )
    return Paper(task=entry.task, draws=[entry.read(Path(path))[:limit]])


def exams_of(world: World, names: Sequence[str] = (), *, split: str, limit: int | None) -> dict[str, Exam]:
    """A world's exams of some names, or all that it sits unless told, on the first `limit` items of each."""
    found = _worlds_papers(world, names, split, limit)
    return {name: Exam(task=paper.task, items=paper.draws[0]) for name, paper in found.items()}


def _worlds_papers(world: World, names: Sequence[str], split: str, limit: int | None) -> dict[str, Paper]:
    """A world's exams: those that it has whole, and those that are a task file or the items of a task."""
    found = {}
    for name, exam in world.sit(names, split=split, limit=limit).items():
        if isinstance(exam, Exam):
            found[name] = Paper(task=exam.task, draws=[exam.items], from_file=False)
        elif exam.endswith((".yaml", ".yml")):
            found[name] = _file_paper(exam, {}, limit, NO_SHOTS, 0, world)
        elif name in sampling_entries():
            found[name] = _sampling_paper(sampling_entries()[name], exam, limit)
        else:
            found[name] = _file_paper(name, {find_task(name).name: exam}, limit, NO_SHOTS, 0, world)
    return found


def _worlds_paper(name: str, world: World | None, split: str, limit: int | None) -> list[Paper]:
    """An exam of the world. Raises E745 for a name that neither it nor anything else has."""
    known = () if world is None else world.exams
    if world is None or name not in known:
        find_task(name, (*sampling_entries(), *known))
        return []
    found = _worlds_papers(world, (name,), split, limit)
    return [found[name]] if name in found else list(found.values())


def _file_paper(
    name: str, data: Mapping[str, str], limit: int | None, shots: Shots, seed: int, world: World | None
) -> Paper:
    task = find_task(name)
    path = data.get(task.name, "")
    if not path and world is not None and leads_to(task.items.path):
        path = lead(task.items.path, world)
    items = items_of(task, path, limit=limit)
    if shots.num == 0:
        return Paper(task=task.task(), draws=[items], note=task.note)
    pool = _pool(task, shots.pools.get(task.name, ""))
    drawn = [with_shots(task, items, pool, shots.num, seed, draw) for draw in range(shots.draws)]
    return Paper(task=task.task(), draws=[d[0] for d in drawn], shots=[d[1] for d in drawn], note=task.note)


def _pool(task: TaskFile, path: str) -> list[Group]:
    source = task.demonstrations
    if not (path or source.path):
        raise TrueupError(
            "E746",
            "the task does not say where demonstrations are",
            where=f"task {task.name}",
            remedy=f"give --demonstrations.{task.name} FILE",
        )
    return items_of(replace(task, items=source), path)
