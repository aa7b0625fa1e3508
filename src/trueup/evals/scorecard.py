"""A model's figures on some tasks, each with its interval, its chance level and every item behind it.

Intervals are over items, at 95 %: Agresti and Coull's for values in 0 to 1 (it keeps a width where all are
right, or none), the t interval for the others. Two models are compared by the difference on the same items,
with a bootstrap interval: the alignment tax (Askell et al. 2021, Ouyang et al. 2022). Where items belong
together (the scenarios of ETHICS, Hendrycks et al. 2020) the share of groups whose items are all right is a
figure of its own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trueup.engine import disk
from trueup.engine.groups import Group
from trueup.engine.order import derive
from trueup.evals.likelihood import Evidence, bits_per_byte, exact_match_by, perplexity
from trueup.evals.papers import Paper
from trueup.evals.tasks import SCORES, Advance, Graded, Task, confidence
from trueup.evals.view import PolicyView, tokens_cut
from trueup.settings.names import as_name
from trueup.statistics.estimates import Estimate, ece, mean_ci, paired_gain, win_rate

Floats = NDArray[np.float64]
Examine = Callable[[Task, Sequence[Group], int, Advance], tuple[Floats, Evidence | Graded]]
"(task, items, seed, advance) to the value of each item and what it was made of."


@dataclass(frozen=True, kw_only=True, eq=False)
class Examiner:
    """How one model is examined."""

    examine: Examine
    context: int | None
    "The tokens it reads at most; None for no limit."


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """What one model got on one task."""

    paper: Paper
    by_draw: Floats
    "[num_draws, num_items], larger is better."
    found: Evidence | Graded
    "What the values of the first draw were made of."
    cut: NDArray[np.int64]
    "[num_items]: so many tokens of the item were not read, in the draw where most were not."
    context: int | None

    @property
    def values(self) -> Floats:
        """One for each item, the mean over draws."""
        return self.by_draw.mean(axis=0)

    @property
    def exact(self) -> dict[str, float]:
        """By group of items the share of draws in which all of them are right; empty where there is none."""
        keys = [item.meta.get("together") for item in self.paper.draws[0]]
        grouped = [(i, key) for i, key in enumerate(keys) if key is not None]
        places, names = [i for i, _ in grouped], [key for _, key in grouped]
        draws = [exact_match_by(values[places], names) for values in self.by_draw]
        return {name: float(np.mean([draw[name] for draw in draws])) for name in draws[0]}

    def beside(self) -> dict[str, float]:
        """Figures that the same log-probabilities or completions give, without a value for each item."""
        if isinstance(self.found, Graded):
            return dict(self.found.beside)
        items, score = list(self.paper.draws[0]), self.paper.task.score
        if score is None:
            return {}
        return {name: float(value) for name, value in _beside(score.name, self.found, items).items()}


def sit(examiner: Examiner, paper: Paper, seed: int = 0, advance: Advance = lambda count: None) -> Result:
    """One model's values on one paper."""
    draws = [
        examiner.examine(paper.task, items, derive(seed, paper.task.name), advance) for items in paper.draws
    ]
    return Result(
        paper=paper,
        by_draw=np.stack([values for values, _ in draws]),
        found=draws[0][1],
        cut=np.max([_cut(found) for _, found in draws], axis=0),
        context=examiner.context,
    )


def _cut(found: Evidence | Graded) -> list[int]:
    return found.cut if isinstance(found, Evidence) else [tokens_cut(group) for group in found.groups]


def examiner(view: PolicyView) -> Examiner:
    """How a policy of ours is examined."""
    return Examiner(
        examine=lambda task, items, seed, advance: task.examine(view, items, seed, advance),
        context=view.context,
    )


def rows_of(result: Result, against: Result | None = None, seed: int = 0) -> list[dict[str, Any]]:
    """The figures of one task as JSON values: of its items, and of the groups of items it has.

    With `against` its own figures and the difference too.
    """
    task, paper = result.paper.task, result.paper
    other = None if against is None else against.values
    row: dict[str, Any] = {
        "task": task.name,
        "version": task.version,
        "metric": task.metric,
        "items": len(result.values),
        **compared(result.values, other, ceiling=task.ceiling, seed=seed),
        "chance": task.chance(paper.draws[0]),
        "also": result.beside(),
        "cut": _cut_json(result),
    }
    if paper.note:
        row["note"] = paper.note
    if task.sampling is not None:
        row["sampling"] = {**task.sampling.to_json(), "seed": derive(seed, task.name)}
    if paper.shots[0]:
        means = result.by_draw.mean(axis=1)
        spread = float(means.std(ddof=1)) if len(means) > 1 else None
        row["shots"] = {"rows": [list(s) for s in paper.shots], "means": means.tolist(), "sd": spread}
    if against is not None:
        row["against_cut"] = _cut_json(against)
    return [row, *_exact_rows(result, against, seed)]


def _exact_rows(result: Result, against: Result | None, seed: int) -> list[dict[str, Any]]:
    """The share of groups all of whose items are right, as a row; none where items have no groups."""
    exact, items = result.exact, result.paper.draws[0]
    if not exact:
        return []
    chances = dict.fromkeys(exact, 1.0)
    for item in items:
        if "together" in item.meta:
            chances[item.meta["together"]] /= len(item.completions)
    ours = np.array(list(exact.values()))
    other = None if against is None else np.array(list(against.exact.values()))
    row = {
        "task": f"{result.paper.task.name}_exact",
        "version": result.paper.task.version,
        "metric": "exact match",
        "items": len(exact),
        **compared(ours, other, ceiling=1.0, seed=seed),
        "chance": float(np.mean(list(chances.values()))),
        "also": {},
        "left_out": sum("together" not in item.meta for item in items),
    }
    return [row]


def _cut_json(result: Result) -> dict[str, Any]:
    return {"items": int((result.cut > 0).sum()), "context": result.context}


def compared(
    values: Floats, other: Floats | None, *, ceiling: float | None, seed: int = 0, sign: int = 1
) -> dict[str, Any]:
    """The mean with its interval; of two models both means, and the paired difference with its verdict.

    `sign` is −1 where a smaller value is the better one.
    """
    row: dict[str, Any] = {"value": estimate(values, ceiling).to_json()}
    if other is not None:
        gain = paired_gain(values, other, interval="bootstrap", seed=seed)
        row["against"] = estimate(other, ceiling).to_json()
        row["difference"] = {**gain.to_json(), "verdict": verdict(gain, sign)}
    return row


def estimate(values: Floats, ceiling: float | None = 1.0) -> Estimate:
    """The mean over items with its interval: Agresti and Coull's for values in 0 to 1, else the t one."""
    if ceiling == 1.0 and values.min() >= 0 and values.max() <= 1:
        return win_rate(values).estimate
    return mean_ci(values)


def verdict(gain: Estimate, sign: int = 1) -> str:
    """What a paired difference says: `bonus`, `tax`, or that none was seen; `sign` as for `compared`."""
    if math.isnan(gain.low) or not gain.excludes(0.0):
        return "no difference seen"
    return "bonus" if sign * gain.mean > 0 else "tax"


def item_rows(result: Result, against: Result | None = None) -> list[dict[str, Any]]:
    """Every item: its place, its value, and the log-probabilities or completions it was made of."""
    rows = []
    for i, item in enumerate(result.paper.draws[0]):
        row: dict[str, Any] = {"item": item.id, "value": float(result.values[i])}
        if against is not None:
            row["against_value"] = float(against.values[i])
        for name, model in (("", result), ("against_", against)):
            if model is not None:
                row |= {f"{name}{key}": value for key, value in _made_of(model, i).items()}
        row |= {key: item.meta[key] for key in ("answer", "true", "together") if key in item.meta}
        rows.append(row)
    return rows


def _made_of(result: Result, place: int) -> dict[str, Any]:
    """What one item's value was made of, in the first draw."""
    found = result.found
    row: dict[str, Any] = {"tokens_cut": int(result.cut[place])} if result.cut[place] else {}
    if isinstance(found, Graded):
        return row | {"completions": [{"text": c.text, **c.marks} for c in found.groups[place].completions]}
    row["logprobs"] = found.logprobs[place].tolist()
    return row | ({"greedy": found.greedy[place].tolist()} if found.greedy else {})


def write_out(folder: Path, document: Mapping[str, Any], rows: Mapping[str, list[dict[str, Any]]]) -> None:
    """`eval.json`, and `items/TASK.jsonl` with one line for each item."""
    disk.make_folder(folder / "items")
    for name, lines in rows.items():
        text = "".join(json.dumps(line, ensure_ascii=False, default=str) + "\n" for line in lines)
        disk.write(folder / "items" / f"{as_name(name)}.jsonl", text)
    text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    disk.write(folder / "eval.json", text)


def _beside(score: str, found: Evidence, items: list[Group]) -> dict[str, float]:
    if score == "document":
        plain = not any(len(item.prompt) > 1 for item in items)
        bits = {"bits_per_byte": bits_per_byte(items, found)} if plain else {}
        return {"perplexity": perplexity(found), **bits}
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
