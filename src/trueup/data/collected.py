"""What people said in a project of `trueup collect`, as rows of groups: for `data.path: collect:project.db`.

Each task is a group, each person's answer one judgement in it. `collect:project.db?until=N` is the project as
it was after event N of its log, the same rows for ever; without it rows are those of the moment of reading.
`?group=NAME` has what one group of people said, without verdicts on disputes, which are not that group's;
`?kind=KIND` the tasks of one kind.
The digest of such an input is that of its rows, not of the file, in which leases and drafts change too.
"""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote

from trueup.data.problems import file_error, printable
from trueup.data.raw_rows import RawRow
from trueup.engine.groups import Group
from trueup.errors import EXIT_MISSING, TrueupError

PREFIX = "collect:"
TASKS = "SELECT id, kind, sha, body FROM task WHERE purpose = 'work' ORDER BY id"
ANSWERS = """SELECT answer.task, person.name, answer.body, answer.shown, answer.at, person.id FROM answer
JOIN task ON task.id = answer.task JOIN person ON person.id = answer.person
WHERE task.purpose = 'work' AND answer.skipped = 0 AND answer.given <= {until}
AND (answer.undone IS NULL OR answer.undone > {until}) ORDER BY answer.id"""
VERDICTS = """SELECT event.task, person.name, event.body, '', event.at, person.id FROM event
JOIN person ON person.id = event.person WHERE event.kind = 'verdict' AND event.seq <= {until}
ORDER BY event.seq"""
INVITES = "SELECT body FROM event WHERE kind = 'invite' AND seq <= {until} ORDER BY seq"
"The group of people that somebody is of is what the last of these said."
LATEST = "SELECT COALESCE(MAX(seq), 0) FROM event"
_ORDER = tuple(field.name for field in fields(Group))
_REFERENCE = re.compile(r"collect:(?P<file>[^?]+)(?:\?(?P<rest>.*))?", re.DOTALL)
_UNTIL = re.compile(r"[0-9]{1,15}")


class Task(NamedTuple):
    """A task as the store has it."""

    id: int
    kind: str
    sha: str
    body: str


class Said(NamedTuple):
    """One person's answer to a task as the store has it."""

    task: int
    who: str
    body: str
    shown: str
    at: str
    number: int
    "The person's, which tells nobody who it is."


def group_rows(
    tasks: Iterable[Sequence[Any]], answers: Iterable[Sequence[Any]], verdicts: Iterable[Sequence[Any]] = ()
) -> Iterator[dict[str, Any]]:
    """The rows of groups that some tasks and the answers to them make, in the tasks' order.

    A task that nobody has answered, and that came without a judgement, makes none. Of one that was decided
    the verdict is the judgement, and the votes stand in `meta.collected.adjudicated`.
    """
    decided = {verdict.task: verdict for verdict in map(Said._make, verdicts)}
    said: dict[int, list[Said]] = {}
    for answer in map(Said._make, answers):
        said.setdefault(answer.task, []).append(answer)
    for task in map(Task._make, tasks):
        row, given = json.loads(task.body), said.get(task.id, [])
        if given or any(row.get(name) for name in ("comparisons", "rankings", "scores")):
            tagged = _tagged(row, task)
            made_rows = _FOLDS[task.kind](tagged, given)
            if task.id in decided:
                made_rows = [_decided(tagged, task.kind, next(iter(made_rows)), decided[task.id])]
            for made in made_rows:
                yield {name: made[name] for name in _ORDER if name in made}


def _tagged(row: dict[str, Any], task: Task) -> dict[str, Any]:
    """The group with where it comes from; one that was exported and read in again has that already."""
    meta = dict(row.get("meta") or {})
    meta.setdefault("collected", {"kind": task.kind, "task": task.sha[:16]})
    return {**row, "meta": meta}


def _decided(row: Mapping[str, Any], kind: str, voted: dict[str, Any], verdict: Said) -> dict[str, Any]:
    """The group with the verdict as its judgement, and the votes beside it."""
    key = {"compare": "comparisons", "rank": "rankings", "rate": "scores"}[kind]
    body = json.loads(verdict.body)
    alone = verdict._replace(body=json.dumps(body["said"]), shown=json.dumps(body["shown"]))
    (made,) = _FOLDS[kind]({**row, key: []}, [alone])
    note = {"labeler": verdict.who, "reason": body["reason"], "when": verdict.at, "votes": voted[key]}
    held = {**voted["meta"]["collected"], "adjudicated": note}
    return {**voted, key: made[key], "meta": {**voted["meta"], "collected": held}}


def _with(row: dict[str, Any], said: Sequence[Said], key: str, made: list[dict[str, Any]]) -> dict[str, Any]:
    """The group with further judgements, and with what people wrote beside them."""
    found = {**row, key: [*row.get(key, []), *made]}
    notes = [(s.who, json.loads(s.body)) for s in said]
    for name in ("comment", "flags", "critique"):
        beside = [{"labeler": who, name: body[name]} for who, body in notes if body.get(name)]
        if beside:
            held = found["meta"]["collected"]
            found["meta"] = {**found["meta"], "collected": {**held, name: [*held.get(name, []), *beside]}}
    return found


def _compared(row: dict[str, Any], said: Sequence[Said]) -> Iterator[dict[str, Any]]:
    made = []
    for one in said:
        body = json.loads(one.body)
        choice = {name: body[name] for name in ("a", "b", "choice", "strength") if name in body}
        made.append({**choice, "shown": json.loads(one.shown), "labeler": one.who, "when": one.at})
    yield _with(row, said, "comparisons", made)


def _ranked(row: dict[str, Any], said: Sequence[Said]) -> Iterator[dict[str, Any]]:
    made = [{"tiers": json.loads(s.body)["tiers"], "labeler": s.who, "when": s.at} for s in said]
    yield _with(row, said, "rankings", made)


def _rated(row: dict[str, Any], said: Sequence[Said]) -> Iterator[dict[str, Any]]:
    made = [
        {"completion": 0, "value": float(value), "judge": f"{axis}:{one.who}", "when": one.at}
        for one in said
        for axis, value in json.loads(one.body)["values"].items()
    ]
    yield _with(row, said, "scores", made)


def _demonstrated(row: dict[str, Any], said: Sequence[Said]) -> Iterator[dict[str, Any]]:
    made = [{"text": json.loads(s.body)["text"], "source": s.who} for s in said]
    yield _with(row, said, "completions", made)


def _corrected(row: dict[str, Any], said: Sequence[Said]) -> Iterator[dict[str, Any]]:
    """Who corrects an answer holds what he wrote for better than what he was given."""
    first = len(row["completions"])
    row = _with(
        row, said, "completions", [{"text": json.loads(s.body)["text"], "source": s.who} for s in said]
    )
    better = [
        {"a": first + at, "b": 0, "choice": "a", "labeler": one.who, "when": one.at}
        for at, one in enumerate(said)
    ]
    yield {**row, "comparisons": [*row.get("comparisons", []), *better]}


def _conversed(row: dict[str, Any], said: Sequence[Said]) -> Iterator[dict[str, Any]]:
    """Of each conversation a group a turn: what was said before it, both answers, which was better.

    That of the turn whose answer is the one to keep has this completion's place in `meta.collected.final`.
    """
    for one in said:
        before, body = list(row["prompt"]), json.loads(one.body)
        for number, turn in enumerate(body["turns"], 1):
            before = [*before, {"role": "user", "content": turn["user"]}]
            choice = {name: turn[name] for name in ("choice", "strength") if name in turn}
            compared = {"a": 0, "b": 1, **choice, "shown": turn["shown"], "labeler": one.who, "when": one.at}
            held = {**row["meta"]["collected"], "turn": number, "conversation": f"{one.task}:{one.who}"}
            if body.get("final") == number:
                held["final"] = turn["kept"]
            yield {
                **row,
                "prompt": before,
                "completions": [{"text": c["text"], "source": c["source"]} for c in turn["answers"]],
                "comparisons": [compared],
                "user": one.who,
                "meta": {**row["meta"], "collected": held},
            }
            before = [*before, {"role": "assistant", "content": turn["answers"][turn["kept"]]["text"]}]


def _prompted(row: dict[str, Any], said: Sequence[Said]) -> Iterator[dict[str, Any]]:
    """Of each person who wrote a prompt a group of its own; its writer is a number."""
    for one in said:
        body = json.loads(one.body)
        more = {name: body[name] for name in ("style", "instruction", "examples") if name in body}
        asked = "\n".join(m["content"] for m in row["prompt"])
        held = {**row["meta"]["collected"], **more, **({"use_case": asked} if asked else {})}
        yield {
            **row,
            "prompt": [{"role": "user", "content": _prompt_text(body)}],
            "user": f"writer-{one.number}",
            "meta": {**row["meta"], "collected": held},
        }


def _prompt_text(body: Mapping[str, Any]) -> str:
    """What is sent to a model: of a few-shot prompt the instruction, the examples, and the last query."""
    if "examples" not in body:
        return body["text"]
    shown = [f"Query: {asked}\nResponse: {answered}" for asked, answered in body["examples"]]
    return "\n\n".join([body["instruction"], *shown, f"Query: {body['text']}\nResponse:"])


_FOLDS = {
    "compare": _compared,
    "rank": _ranked,
    "rate": _rated,
    "demonstrate": _demonstrated,
    "critique": _corrected,
    "converse": _conversed,
    "prompts": _prompted,
}
KINDS = tuple(_FOLDS)


# ------------------------------------------------------------------------------------------ as an input


def is_reference(text: str) -> bool:
    """Whether a setting names a project."""
    return text.startswith(PREFIX)


def collected_rows(reference: str) -> Iterator[RawRow]:
    """The rows of a project, each with the bytes that an export writes. Raises E102 or E884."""
    file = _parts(reference).file
    for number, line in enumerate(_lines(reference), 1):
        yield RawRow(str(file), number, -1, line)


def collected_digest(reference: str) -> str:
    """The SHA-256 of the rows of a project, which is that of the file that an export of them writes."""
    state = hashlib.sha256()
    for line in _lines(reference):
        state.update(line)
    return state.hexdigest()


def of_group(said: Iterable[Sequence[Any]], invites: Iterable[Sequence[Any]], group: str) -> list[Any]:
    """The answers of the people who were invited into a group. Raises E884 for one that is not there."""
    told = (json.loads(body) for (body,) in invites)
    teams = {invite["name"]: invite["team"] for invite in told}
    if group not in teams.values():
        there = ", ".join(sorted({team for team in teams.values() if team})) or "none: invite with --group"
        remedy = f"name one of the groups of people; there are {there}"
        raise TrueupError("E884", "there is no such group of people", where=f"group={group}", remedy=remedy)
    return [row for row in said if teams.get(row[1]) == group]


def line_of(row: Mapping[str, Any]) -> bytes:
    """A row of groups as a line of an exported file."""
    return f"{json.dumps(row, ensure_ascii=False, allow_nan=False)}\n".encode()


class _Named(NamedTuple):
    """What a reference names."""

    file: Path
    until: int | None
    group: str | None
    kind: str | None


def _parts(reference: str) -> _Named:
    found = _REFERENCE.fullmatch(reference)
    named = dict(parse_qsl(found["rest"] or "", keep_blank_values=True)) if found else {}
    until = named.get("until")
    wrong = (
        named.keys() - {"until", "group", "kind"}
        or named.get("kind", KINDS[0]) not in KINDS
        or (until is not None and not _UNTIL.fullmatch(until))
    )
    if found is None or "://" in reference or wrong or (found["rest"] and not named):
        remedy = (
            "write collect:project.db, and after ? what you want of it, with & between: until=N, group=NAME, "
            "kind=KIND; of PostgreSQL use an export"
        )
        raise file_error("E884", "names no project's file", reference, remedy)
    return _Named(
        Path(found["file"]).expanduser(),
        None if until is None else int(until),
        named.get("group"),
        named.get("kind"),
    )


def _lines(reference: str) -> list[bytes]:
    file, until, group, kind = _parts(reference)
    if not file.is_file():
        raise file_error("E102", "no such file", str(file), "check the path", EXIT_MISSING)
    try:
        with closing(
            sqlite3.connect(f"file:{quote(str(file.absolute()))}?mode=ro", uri=True, timeout=30)
        ) as db:
            db.execute("BEGIN")
            latest = db.execute(LATEST).fetchone()[0]
            if until is not None and until > latest:
                raise _later(file, until, latest)
            at = latest if until is None else until
            return [line_of(row) for row in rows_of(db.execute, at, group, kind)]
    except sqlite3.Error as error:
        remedy = "name the store of a `trueup collect`; if it was killed, start it once and stop it"
        reason = f"is no project that can be read: {printable(str(error))}"
        raise file_error("E884", reason, str(file), remedy) from None


def rows_of(
    execute: Callable[[str], Iterable[Sequence[Any]]], until: int, group: str | None, kind: str | None = None
) -> list[dict[str, Any]]:
    """The rows of an open store after an event: of everybody, or of one group or kind. Raises E884."""
    tasks, said = list(execute(TASKS)), list(execute(ANSWERS.format(until=until)))
    tasks = [row for row in tasks if kind in (None, row[1])]
    if group is not None:
        return list(group_rows(tasks, of_group(said, execute(INVITES.format(until=until)), group)))
    return list(group_rows(tasks, said, execute(VERDICTS.format(until=until))))


def _later(file: Path, until: int, latest: int) -> TrueupError:
    remedy = f"write until={latest} or less"
    return file_error("E884", f"event {until} has not happened: there are {latest}", str(file), remedy)
