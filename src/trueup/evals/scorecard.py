"""A model's figures on some tasks, each with its interval, its chance level and every item behind it.

Intervals are over items, at 95 %: Agresti and Coull's for values in 0 to 1 (it keeps a width where all are
right, or none), the t interval for the others. Two models are compared by the difference on the same items,
with a bootstrap interval: the alignment tax (Askell et al. 2021, Ouyang et al. 2022).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trueup.errors import TrueupError
from trueup.evals.benchmarks import items_of, with_shots
from trueup.evals.lab_suite import Exam, exam_names, lab_suite
from trueup.evals.likelihood import Evidence
from trueup.evals.statistics import Estimate, ece, mean_ci, paired_gain, win_rate
from trueup.evals.task_files import TaskFile, find_task, shipped
from trueup.evals.tasks import SCORES, Task, confidence
from trueup.evals.view import PolicyView
from trueup.groups import Group
from trueup.lab.evaluations import EVALUATIONS
from trueup.lab.world import Split
from trueup.order import derive

Floats = NDArray[np.float64]
Examine = Callable[[Task, Sequence[Group], int], tuple[Floats, Evidence | None]]
"(task, items, seed) to the value of each item and what it was made of."


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


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """What one model got on one task."""

    paper: Paper
    values: Floats
    "One for each item, the mean over draws; larger is better."
    evidence: Evidence | None
    "Of the first draw."
    draw_means: tuple[float, ...]

    @property
    def estimate(self) -> Estimate:
        """The mean over items with its interval."""
        if self.paper.task.ceiling == 1.0 and self.values.min() >= 0 and self.values.max() <= 1:
            return win_rate(self.values).estimate
        return mean_ci(self.values)

    def beside(self) -> dict[str, float]:
        """Figures that the same log-probabilities give, and that have no value for each item."""
        items, score = list(self.paper.draws[0]), self.paper.task.score
        if self.evidence is None or score is None:
            return {}
        return {name: float(value) for name, value in _beside(score.name, self.evidence, items).items()}


def papers(
    names: Sequence[str],
    *,
    data: Mapping[str, str] = {},
    split: Split = "test",
    limit: int | None = None,
    shots: Shots = NO_SHOTS,
    seed: int = 0,
) -> dict[str, Paper]:
    """The tasks of some names or files, with their items; the lab's exams where none is named.

    Raises E745 for a task that there is not, E746 for data of a task that is not asked for, and what reading
    the items raises.
    """
    exams = lab_suite(split, limit=limit) if not names else {}
    found = {name: Paper(task=exam.task, draws=[exam.items]) for name, exam in exams.items()}
    for name in names:
        paper = _lab_paper(name, split, limit) or _file_paper(name, data, limit, shots, seed)
        found[paper.task.name] = paper
    for kind, given in (("data", data), ("demonstrations", shots.pools)):
        for name in given:
            if name not in found:
                raise TrueupError(
                    "E746",
                    f"--{kind}.{name} is for no task that is asked for",
                    where="tasks",
                    remedy=f"asked for: {', '.join(found)}",
                )
    return found


def _lab_paper(name: str, split: Split, limit: int | None) -> Paper | None:
    """An exam of the lab that no task file has the name of."""
    if name in shipped() or name.endswith((".yaml", ".yml")):
        return None
    exams = _lab_names()
    if name not in exams:
        find_task(name, tuple(exams))
    exam: Exam = lab_suite(split, (exams[name],), limit)[name]
    return Paper(task=exam.task, draws=[exam.items])


def _lab_names() -> dict[str, str]:
    """Each exam of the lab and the benchmark that it is of; no items are made for it."""
    return {exam: benchmark for benchmark in EVALUATIONS for exam in exam_names(benchmark)}


def _file_paper(name: str, data: Mapping[str, str], limit: int | None, shots: Shots, seed: int) -> Paper:
    task = find_task(name)
    items = items_of(task, data.get(task.name, ""), limit=limit)
    if shots.num == 0:
        return Paper(task=task.task(), draws=[items])
    pool = _pool(task, shots.pools.get(task.name, ""))
    drawn = [with_shots(task, items, pool, shots.num, seed, draw) for draw in range(shots.draws)]
    return Paper(task=task.task(), draws=[d[0] for d in drawn], shots=[d[1] for d in drawn])


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


def sit(examine: Examine, paper: Paper, seed: int = 0) -> Result:
    """One model's values on one paper."""
    values, first = [], None
    for number, items in enumerate(paper.draws):
        found, evidence = examine(paper.task, items, derive(seed, paper.task.name))
        values.append(found)
        first = evidence if number == 0 else first
    return Result(
        paper=paper,
        values=np.mean(values, axis=0),
        evidence=first,
        draw_means=tuple(float(v.mean()) for v in values),
    )


def examiner(view: PolicyView) -> Examine:
    """How a policy of ours is examined."""
    return lambda task, items, seed: task.examine(view, items, seed)


def row_of(result: Result, against: Result | None = None, seed: int = 0) -> dict[str, Any]:
    """The figures of one task as JSON values; with `against` its own and the difference too."""
    task, paper = result.paper.task, result.paper
    score = task.score
    row: dict[str, Any] = {
        "task": task.name,
        "version": task.version,
        "metric": score.metric if score else "mean of samples",
        "items": len(result.values),
        "value": result.estimate.to_json(),
        "chance": task.chance(paper.draws[0]),
        "also": result.beside(),
    }
    if paper.shots[0]:
        means = np.array(result.draw_means)
        spread = float(means.std(ddof=1)) if len(means) > 1 else None
        row["shots"] = {"rows": [list(s) for s in paper.shots], "means": means.tolist(), "sd": spread}
    if against is not None:
        gain = paired_gain(result.values, against.values, interval="bootstrap", seed=seed)
        row["against"] = against.estimate.to_json()
        row["difference"] = {**gain.to_json(), "verdict": verdict(gain)}
    return row


def verdict(gain: Estimate) -> str:
    """What a paired difference says: `bonus`, `tax`, or that none was seen."""
    if math.isnan(gain.low) or not gain.excludes(0.0):
        return "no difference seen"
    return "bonus" if gain.mean > 0 else "tax"


def item_rows(result: Result, against: Result | None = None) -> list[dict[str, Any]]:
    """Every item: its place, its value, and the log-probabilities it was made of."""
    rows = []
    for i, item in enumerate(result.paper.draws[0]):
        row: dict[str, Any] = {"item": item.id, "value": float(result.values[i])}
        for name, found in (("", result), ("against_", against)):
            if name and found is not None:
                row["against_value"] = float(found.values[i])
            if found is not None and found.evidence is not None:
                row[f"{name}logprobs"] = found.evidence.logprobs[i].tolist()
                if found.evidence.greedy:
                    row[f"{name}greedy"] = found.evidence.greedy[i].tolist()
        row |= {key: item.meta[key] for key in ("answer", "true") if key in item.meta}
        rows.append(row)
    return rows


def write_out(folder: Path, document: Mapping[str, Any], rows: Mapping[str, list[dict[str, Any]]]) -> None:
    """`eval.json`, and `items/TASK.jsonl` with one line for each item."""
    (folder / "items").mkdir(parents=True, exist_ok=True)
    for name, lines in rows.items():
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (folder / "items" / f"{name}.jsonl").write_text(text, encoding="utf-8")
    text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    (folder / "eval.json").write_text(text, encoding="utf-8")


def _beside(score: str, found: Evidence, items: list[Group]) -> dict[str, float]:
    if score == "document":
        nll = -sum(float(row.sum()) for row in found.logprobs)
        count = sum(float(row.sum()) for row in found.num_tokens)
        size = sum(len(c.text.encode()) for item in items for c in item.completions)
        plain = not any(len(item.prompt) > 1 for item in items)
        bits = {"bits_per_byte": nll / (math.log(2) * size)} if plain else {}
        return {"perplexity": math.exp(nll / count), **bits}
    if score == "greedy":
        return {"target_perplexity": math.exp(-float(np.mean([row[0] for row in found.logprobs])))}
    if score == "brier":
        sure, right = confidence(found, items)
        return {"ece": ece(sure, right), "accuracy": float(right.mean())}
    if score == "sum":
        return {"per_character": float(SCORES["character"].values(found, items).mean())}
    if score == "character":
        return {"by_sum": float(SCORES["sum"].values(found, items).mean())}
    return {}
