"""Whose values: how far groups of people agree within and between, and what each of them prefers.

Two people agree on a task as on a known answer: the same side, the same order of two, ratings one off at
most. The gap of two groups is the agreement of two people of one group less that of two of both. Its interval
resamples tasks; whether it is more than chance is asked of the people: p is the share of all ways to divide
them into groups of these sizes whose gap is as large (a permutation test, Fisher 1935), times the pairs of
groups looked at (Bonferroni).
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from trueup.collecting.board import answers_said, rated, values_of
from trueup.collecting.exports import exported_rows
from trueup.collecting.store import Store
from trueup.statistics.estimates import Estimate, mean_ci

RESAMPLES, DIVISIONS = 2000, 5000
"Of tasks for an interval; of people for a p, where there are more ways to divide them."
DOUBT = 0.05
Votes = Mapping[tuple[int, str], Mapping[str, float]]
"What people said by task and question."


def groups_report(store: Store) -> dict[str, Any]:
    """What is said of the groups of people, as plain values; `said` has it in sentences."""
    with store.read() as connection:
        said = answers_said(connection)
    teams = {row["name"]: row["team"] for row in said if row["team"]}
    work = [row for row in said if row["team"] and not row["skipped"] and row["purpose"] == "work"]
    names = sorted({row["team"] for row in work})
    votes, loose = _votes(work)
    found: dict[str, Any] = {
        "groups": [_group(name, work, votes, loose) for name in names],
        "pairs": _apart(names, teams, votes, loose),
        "models": {name: rated(exported_rows(store, name)[0]) for name in names},
        "preferences": _preferences(names, work),
        "values": _values(names, work),
    }
    return {**found, "said": sentences(found)}


def sentences(found: Mapping[str, Any]) -> list[str]:
    """What the report says, a sentence for each two groups and for each preference that parts them."""
    if len(found["groups"]) < 2:
        return ["Nobody can be told apart: fewer than two groups of people have answered."]
    said = []
    for pair in found["pairs"]:
        a, b, gap = pair["a"], pair["b"], pair["gap"]
        if gap is None:
            said.append(f"{a} and {b}: too few people judged the same tasks to tell whether they differ.")
        elif pair["differ"]:
            said.append(
                f"{a} and {b} differ: two of one group agree on {_share(pair['within'])}, two of both on "
                f"{_share(pair['between'])} (p = {pair['p']:.3f})."
            )
        else:
            said.append(
                f"{a} and {b} do not differ measurably: two of one group agree on {_share(pair['within'])}, "
                f"two of both on {_share(pair['between'])} (p = {pair['p']:.2f})."
            )
    for one in found["preferences"]:
        gap = one["gap"]
        if gap is not None and gap.excludes(0.0):
            x, y = one["models"]
            likes, less = (one["a"], one["b"]) if gap.mean > 0 else (one["b"], one["a"])
            shares = [_share(one["shares"][name]) for name in (likes, less)]
            said.append(f"{likes} prefers {x} to {y} on {shares[0]}, {less} on {shares[1]}.")
    return said


def as_json(value: Any) -> Any:
    """The report with its estimates as JSON values."""
    if isinstance(value, Estimate):
        return value.to_json()
    if isinstance(value, Mapping):
        return {name: as_json(part) for name, part in value.items()}
    return [as_json(part) for part in value] if isinstance(value, list | tuple) else value


def _share(value: Estimate | None) -> str:
    if value is None:
        return "–"
    bounds = "" if math.isnan(value.low) else f" [{100 * value.low:.0f}, {100 * value.high:.0f}]"
    return f"{100 * value.mean:.0f} %{bounds}"


def _votes(work: Iterable[Mapping[str, Any]]) -> tuple[Votes, set[tuple[int, str]]]:
    """What was said by task and question, and which of those are ratings, where one off agrees."""
    votes: dict[tuple[int, str], dict[str, float]] = defaultdict(dict)
    loose = set()
    for row in work:
        if row["kind"] in ("compare", "rank", "rate"):
            for of, value in values_of(row["kind"], row["body"]).items():
                rates = row["kind"] == "rate"
                votes[row["id"], of][row["name"]] = value if rates else float(np.sign(value))
                loose |= {(row["id"], of)} if rates else set()
    return votes, loose


def _agreeing(
    votes: Votes, loose: set[tuple[int, str]], people: Sequence[str]
) -> Iterator[tuple[int, int, int, bool]]:
    """The task, two people by their places, and whether they agree, for every two that judged the same."""
    at = {name: place for place, name in enumerate(people)}
    for unit, by in votes.items():
        room = 1.0 if unit in loose else 0.0
        for one, other in combinations(sorted(at[name] for name in by if name in at), 2):
            yield unit[0], one, other, abs(by[people[one]] - by[people[other]]) <= room


def _group(
    name: str, work: Sequence[Mapping[str, Any]], votes: Votes, loose: set[tuple[int, str]]
) -> dict[str, Any]:
    mine = [row for row in work if row["team"] == name]
    people = sorted({row["name"] for row in mine})
    by_task: dict[int, list[float]] = defaultdict(list)
    for task, _, _, same in _agreeing(votes, loose, people):
        by_task[task].append(float(same))
    shares = [float(np.mean(found)) for found in by_task.values()]
    within = mean_ci(shares, interval="bootstrap") if shares else None
    return {"group": name, "people": len(people), "answers": len(mine), "within": within}


def _apart(
    names: Sequence[str], teams: Mapping[str, str], votes: Votes, loose: set[tuple[int, str]]
) -> list[dict[str, Any]]:
    """Of every two groups their agreement within and between, and whether the gap is more than chance."""
    pairs = list(combinations(names, 2))
    return [_pair(a, b, teams, votes, loose, len(pairs)) for a, b in pairs]


def _pair(
    a: str, b: str, teams: Mapping[str, str], votes: Votes, loose: set[tuple[int, str]], looks: int
) -> dict[str, Any]:
    spoke = {name for by in votes.values() for name in by}
    people = sorted(name for name in spoke if teams[name] in (a, b))
    side = np.array([teams[name] == a for name in people])
    rows = list(_agreeing(votes, loose, people))
    if len({bool(side[i] == side[j]) for _, i, j, _ in rows}) < 2:
        return {"a": a, "b": b, "within": None, "between": None, "gap": None, "p": None, "differ": False}
    within, between, gap = _resampled(rows, side)
    p = min(1.0, looks * _chance(rows, side))
    found = {"within": within, "between": between, "gap": gap, "p": p}
    return {"a": a, "b": b, **found, "differ": p <= DOUBT}


def _resampled(
    rows: Sequence[tuple[int, int, int, bool]], side: np.ndarray
) -> tuple[Estimate, Estimate, Estimate]:
    """The agreement within, between, and the one less the other, with intervals over tasks."""
    tasks = sorted({task for task, *_ in rows})
    at = {task: place for place, task in enumerate(tasks)}
    same, count = np.zeros((2, 2, len(tasks)))
    for task, one, other, agree in rows:
        across = int(side[one] != side[other])
        same[across, at[task]] += agree
        count[across, at[task]] += 1
    drawn = np.random.default_rng(0).multinomial(len(tasks), [1 / len(tasks)] * len(tasks), RESAMPLES)
    weights = np.concatenate([np.ones((1, len(tasks))), drawn])
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = (weights @ same.T) / (weights @ count.T)
    within, between = shares.T
    met = (count > 0).sum(axis=1)
    return (
        _estimate(within, int(met[0])),
        _estimate(between, int(met[1])),
        _estimate(within - between, len(tasks)),
    )


def _estimate(draws: np.ndarray, n: int, level: float = 0.95) -> Estimate:
    """The first of some values, with the percentiles of the others (Efron 1979)."""
    many = draws[1:][np.isfinite(draws[1:])]
    low, high = np.quantile(many, [(1 - level) / 2, (1 + level) / 2]) if n > 1 else (math.nan, math.nan)
    error = float(many.std(ddof=1)) if n > 1 else math.nan
    mean = float(draws[0])
    return Estimate(mean=mean, low=float(low), high=float(high), n=n, standard_error=error, level=level)


def _chance(rows: Sequence[tuple[int, int, int, bool]], side: np.ndarray) -> float:
    """The share of the ways to divide the people whose gap is as large as that of the groups."""
    size = len(side)
    same, count = np.zeros((2, size, size))
    for _, one, other, agree in rows:
        same[one, other] += agree
        count[one, other] += 1
    divided = _divisions(side)
    alike = divided[:, :, None] == divided[:, None, :]
    with np.errstate(invalid="ignore", divide="ignore"):
        inside = (alike * same).sum(axis=(1, 2)) / (alike * count).sum(axis=(1, 2))
        across = (~alike * same).sum(axis=(1, 2)) / (~alike * count).sum(axis=(1, 2))
    gaps = inside - across
    told = np.isfinite(gaps)
    return float((gaps[told] >= gaps[0] - 1e-12).mean())


def _divisions(side: np.ndarray) -> np.ndarray:
    """Ways to divide people into groups of two sizes, the real one first: all, or so many drawn."""
    size, first = len(side), int(side.sum())
    if math.comb(size, first) <= DIVISIONS:
        every = np.zeros((math.comb(size, first), size), bool)
        for row, places in enumerate(combinations(range(size), first)):
            every[row, list(places)] = True
        return np.concatenate([side[None], every[(every != side).any(axis=1)]])
    draw = np.random.default_rng(0)
    return np.stack([side, *(draw.permutation(side) for _ in range(DIVISIONS))])


def _preferences(names: Sequence[str], work: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """How often each group prefers one model to another, and by how much two groups are apart in that.

    Intervals are over tasks, those of the gaps at 95 % for all of them together (Bonferroni).
    """
    shares: dict[tuple[str, str], dict[str, dict[int, list[float]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for row in work:
        if row["kind"] != "compare":
            continue
        first, second = (c.get("source", "") for c in json.loads(row["shown_body"])["completions"][:2])
        if first and second and first != second:
            win = {"a": 1.0, "b": 0.0, "tie": 0.5}[row["body"]["choice"]]
            pair, won = ((first, second), win) if first < second else ((second, first), 1 - win)
            shares[pair][row["team"]][row["id"]].append(won)
    looks = max(1, len(shares) * math.comb(len(names), 2))
    return [
        _preference(pair, a, b, by, 1 - DOUBT / looks)
        for pair, by in sorted(shares.items())
        for a, b in combinations(names, 2)
        if a in by and b in by
    ]


def _preference(
    pair: tuple[str, str], a: str, b: str, by: Mapping[str, Mapping[int, list[float]]], level: float
) -> dict[str, Any]:
    means = {name: {task: float(np.mean(won)) for task, won in by[name].items()} for name in (a, b)}
    tasks = sorted(means[a].keys() | means[b].keys())
    values, count = np.zeros((2, 2, len(tasks)))
    for place, name in enumerate((a, b)):
        for column, task in enumerate(tasks):
            if task in means[name]:
                values[place, column], count[place, column] = means[name][task], 1
    drawn = np.random.default_rng(0).multinomial(len(tasks), [1 / len(tasks)] * len(tasks), RESAMPLES)
    weights = np.concatenate([np.ones((1, len(tasks))), drawn])
    with np.errstate(invalid="ignore", divide="ignore"):
        one, other = ((weights @ values.T) / (weights @ count.T)).T
    shares = {name: mean_ci(list(means[name].values()), interval="bootstrap") for name in (a, b)}
    gap = _estimate(one - other, len(tasks), level)
    return {"models": list(pair), "a": a, "b": b, "shares": shares, "gap": gap}


def _values(names: Sequence[str], work: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The mean rating of each model by value and group of people, with intervals over tasks."""
    found: dict[tuple[str, str, str], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in work:
        if row["kind"] == "rate":
            model = json.loads(row["shown_body"])["completions"][0].get("source", "")
            for axis, value in row["body"]["values"].items():
                found[axis, model, row["team"]][row["id"]].append(float(value))
    return [
        {
            "value": axis,
            "model": model,
            "group": name,
            "mean": mean_ci([float(np.mean(v)) for v in by.values()], interval="bootstrap"),
        }
        for (axis, model, name), by in sorted(found.items())
        if name in names
    ]
