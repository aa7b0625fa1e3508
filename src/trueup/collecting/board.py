"""How a project stands, as plain values: progress, agreement, biases, people, and the models' ratings."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from statistics import median
from typing import Any

import sqlalchemy as sa

from trueup.collecting import kinds
from trueup.collecting.drift import drift
from trueup.collecting.exports import exported_rows
from trueup.collecting.schema import answer, lease, person, task
from trueup.collecting.store import Store
from trueup.engine.groups import from_json
from trueup.errors import TrueupError
from trueup.ratings.battles import battles_from_groups
from trueup.ratings.fit import fit_ratings
from trueup.ratings.leaderboard import leaderboard
from trueup.statistics.agreement import krippendorff_alpha, mean_kappa
from trueup.statistics.estimates import Estimate, mean_ci

PRIOR = 0.25
"Of the board's ratings, which are to be shown after few answers too: a prior, as `rank --prior`."


def standing(store: Store, moment: float) -> dict[str, Any]:
    """The values of the board as the store is now; `moment` is the time in seconds since 1970."""
    with store.read() as connection:
        blocks = _blocks(connection, int(moment))
        said = answers_said(connection)
    return {
        "blocks": blocks,
        "agreement": [_agreement(name, kind, rows) for (name, kind), rows in _by_block(said).items()],
        "sides": _sides(said),
        "people": _people(said),
        "rated": rated(exported_rows(store)[0]),
    }


def _blocks(connection: sa.Connection, moment: int) -> list[dict[str, Any]]:
    """Of each block how many tasks there are, how many are done, how many somebody has in hand."""
    full = sa.func.sum(sa.case((task.c.answers >= task.c.overlap, 1), else_=0))
    rows = connection.execute(
        sa.select(
            task.c.block,
            task.c.kind,
            sa.func.count(task.c.id).label("tasks"),
            full.label("done"),
            sa.func.sum(task.c.answers).label("answers"),
            sa.func.sum(task.c.overlap).label("wanted"),
        )
        .where(task.c.purpose == "work")
        .group_by(task.c.block, task.c.kind)
        .order_by(sa.func.min(task.c.id))
    ).all()
    held = connection.execute(
        sa.select(task.c.block, sa.func.count())
        .join(lease, lease.c.task == task.c.id)
        .where(lease.c.expires > moment)
        .group_by(task.c.block)
    ).all()
    at_work: dict[str, int] = {row[0]: row[1] for row in held}
    return [{**row._mapping, "held": at_work.get(row.block, 0)} for row in rows]


def answers_said(connection: sa.Connection) -> list[dict[str, Any]]:
    """Every answer and skip that counts, with its task and who gave it."""
    columns = (
        task.c.id, task.c.block, task.c.kind, task.c.purpose, task.c.gold, task.c.body.label("shown_body"),
        answer.c.body, answer.c.shown, answer.c.skipped, answer.c.seconds,
        person.c.name, person.c.role, person.c.team, person.c.passed,
    )  # fmt: skip
    rows = connection.execute(
        sa.select(*columns)
        .select_from(
            answer.join(task, task.c.id == answer.c.task).join(person, person.c.id == answer.c.person)
        )
        .where(answer.c.undone.is_(None))
        .order_by(answer.c.id)
    )
    return [{**row._mapping, "body": json.loads(row.body), "shown": json.loads(row.shown)} for row in rows]


def _by_block(said: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], list[Mapping[str, Any]]]:
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for row in said:
        if not row["skipped"] and row["purpose"] == "work" and row["kind"] in ("compare", "rank", "rate"):
            found[row["block"], row["kind"]].append(row)
    return found


def values_of(kind: str, body: Mapping[str, Any]) -> dict[str, float]:
    """What an answer says, as numbers by what they are of: signed preferences, places, ratings."""
    if kind == "compare":
        sign = {"a": 1, "b": -1, "tie": 0}[body["choice"]]
        return {"preference": sign * body.get("strength", 0.0)}
    if kind == "rate":
        return {axis: float(value) for axis, value in body["values"].items()}
    rank = {completion: n for n, tier in enumerate(body["tiers"]) for completion in tier}
    return {f"{a} or {b}": _sign(rank[b] - rank[a]) for a, b in combinations(sorted(rank), 2)}


def _sign(value: float) -> float:
    return float((value > 0) - (value < 0))


def _agreement(block: str, kind: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """κ and α of a block: of the choice, and where there is a scale, of its values."""
    units: dict[tuple[int, str], dict[str, float]] = defaultdict(dict)
    for row in rows:
        for of, value in values_of(kind, row["body"]).items():
            units[row["id"], of][row["name"]] = value
    sides = {
        unit: {who: _sign(value) if kind != "rate" else value for who, value in by.items()}
        for unit, by in units.items()
    }
    scaled = [list(by.values()) for by in units.values()]
    return {
        "block": block,
        "kind": kind,
        "tasks": sum(len(by) > 1 for by in units.values()),
        "kappa": mean_kappa(sides),
        "alpha": krippendorff_alpha([list(by.values()) for by in sides.values()]),
        "scaled": None if kind == "rank" else krippendorff_alpha(scaled, "interval"),
    }


def _sides(said: Iterable[Mapping[str, Any]]) -> dict[str, Estimate | None]:
    """How often the left side was preferred, and the longer answer; ties are left out."""
    left, longer = [], []
    for row in said:
        compared = row["kind"] == "compare" and row["purpose"] == "work" and not row["skipped"]
        if not compared or row["body"]["choice"] == "tie":
            continue
        better = "ab".index(row["body"]["choice"])
        left.append(float(row["shown"][0] == better))
        lengths = [len(c["text"]) for c in json.loads(row["shown_body"])["completions"]]
        if lengths[0] != lengths[1]:
            longer.append(float(lengths[better] > lengths[1 - better]))
    return {
        "left": mean_ci(left, interval="bootstrap") if len(left) > 1 else None,
        "longer": mean_ci(longer, interval="bootstrap") if len(longer) > 1 else None,
    }


def _people(said: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of each person how much they did, how fast, how often they said what is known or what others say."""
    by: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in said:
        by[row["name"]].append(row)
    votes: dict[int, dict[str, str]] = defaultdict(dict)
    for row in (r for rows in by.values() for r in rows):
        if row["kind"] == "compare" and not row["skipped"] and row["purpose"] == "work":
            votes[row["id"]][row["name"]] = row["body"]["choice"]
    return [_person(name, rows, votes) for name, rows in sorted(by.items())]


def _person(
    name: str, rows: Sequence[Mapping[str, Any]], votes: Mapping[int, Mapping[str, str]]
) -> dict[str, Any]:
    done = [row for row in rows if not row["skipped"]]
    known = [row for row in done if row["gold"]]
    right = sum(kinds.agrees(row["kind"], row["body"], json.loads(row["gold"])) for row in known)
    others = [
        (by[name] == choice)
        for by in votes.values()
        if name in by
        for who, choice in by.items()
        if who != name
    ]
    return {
        "name": name,
        "role": rows[0]["role"],
        "team": rows[0]["team"],
        "passed": rows[0]["passed"],
        "answers": sum(row["purpose"] != "qualify" for row in done),
        "skips": len(rows) - len(done),
        "seconds": median(row["seconds"] for row in done) if done else None,
        "known": len(known),
        "right": right,
        "agrees": sum(others) / len(others) if others else None,
        "drift": drift(name, [row for row in done if row["purpose"] != "qualify"], votes),
    }


def rated(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any] | str:
    """The models' ratings with their intervals, as `trueup rank` has them; why not, where there are none."""
    # Who mends an answer is no model: corrections stay out.
    compared = [row for row in rows if row["meta"]["collected"]["kind"] in ("compare", "rank", "converse")]
    found = battles_from_groups([g for g in map(from_json, compared) if g.comparisons or g.rankings])
    if not found.battles:
        return "No two models were compared yet."
    try:
        return leaderboard(found, fit_ratings(found.battles, alpha=PRIOR))
    except TrueupError as error:
        return f"No ratings yet: {error.reason}."
