"""Items of benchmarks: the rows of a file, a data set or a world, worded as a task file says.

With demonstrations (few-shot, Brown et al. 2020) the prompt is

    before ‖ sep ‖ query_1 choice_1 ‖ sep ‖ ... ‖ query_k choice_k ‖ sep ‖ query

the same k for all items of one draw, from rows that are no items. With k = 0 and nothing before, it is the
query alone.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, cast

from trueup.data.places import rows_of
from trueup.data.problems import Fault
from trueup.data.raw_rows import decode, opened
from trueup.engine.groups import Completion, Group, Message, Role
from trueup.engine.order import derive, permutation
from trueup.errors import TrueupError, counted
from trueup.evals.answers import last_number
from trueup.evals.harness_text import text_before
from trueup.evals.task_files import Source, TaskFile
from trueup.evals.tasks import answer_of
from trueup.evals.templates import clean, look_up, render
from trueup.worlds import door_of, open_world


@dataclass(frozen=True, slots=True)
class _Row:
    """One row, its place, and the names under which its fields are read."""

    where: str
    values: Mapping[str, Any]
    names: Mapping[str, str]

    def __call__(self, path: str) -> Any:
        return look_up(self.values, self.names.get(path, path), self.where)


def items_of(task: TaskFile, path: str = "", *, limit: int | None = None) -> list[Group]:
    """The task's items, at most `limit`, from `path` or where the task file says.

    Raises E746 where neither names a place, E203 to E206 for a row that lacks a part, with its line.
    """
    if task.before_of:
        text = text_before(task.before_of, task.query, task.separator)
        task = replace(task, before=text.replace("{", "{{").replace("}", "}}"), before_of="")
    source = replace(task.items, path=path) if path else task.items
    if not source.path:
        raise TrueupError(
            "E746",
            "the task does not say where its items are",
            where=f"task {task.name}",
            remedy=f"give --data.{task.name} FILE",
        )
    door = door_of(source.path)
    if door is not None:
        found = open_world(door.world).data(door.name, split=source.split, limit=limit, seed=0)
        if not isinstance(found, str):
            return found
        source = replace(source, path=found)
    rows = _rows(source)
    taken = list(islice(rows, limit))
    items = [item_of(task, row.values, where=row.where, names=source.fields) for row in taken]
    if task.together is None:
        return items
    keys = _together(task.together, taken, next(rows, None))
    return [replace(i, meta={**i.meta, "together": k}) if k else i for i, k in zip(items, keys, strict=True)]


def item_of(task: TaskFile, row: Mapping[str, Any], *, where: str, names: Mapping[str, str] = {}) -> Group:
    """One row as an item, its id the row's place. Raises E203 to E207 for what the row lacks."""
    value = _Row(where, {**row, **_ordered(task, row, where, names)}, names)
    if task.score == "document":
        text = render(task.choices[0] if task.choices else "{text}", value, where)
        return _group("", [text], where, {})
    entries = [_tidy(task, entry) for entry in _entries(task, value)]
    choices = [
        render(task.choice, lambda p, e=entry: e if p == "choice" else value(p), where) for entry in entries
    ]
    choices = choices or [render(choice, value, where) for choice in task.choices]
    meta = _truth(task, value, choices, entries)
    if task.score == "ranking":
        asked = [
            render(task.query, lambda p, e=entry: e if p == "choice" else value(p), where)
            for entry in entries or choices
        ]
        meta |= {"statements": [_headed(task, text) for text in asked], "verdicts": list(task.verdicts)}
        return _group(task.name, choices, where, meta)
    query = _tidy(task, render(task.query, value, where))
    if task.form == "chat":
        prompt = (Message(Role.USER, query),)
        replies = tuple(Completion(text=text.strip()) for text in choices)
        return Group(prompt=prompt, completions=replies, id=where, meta=meta)
    return _group(_headed(task, query), choices, where, meta)


def _together(by: int | str, rows: Sequence[_Row], following: _Row | None) -> list[str | None]:
    """The place of the first row of each row's group; None for the last group where it is not whole.

    A group is `by` rows on end, or the rows on end that share what the field `by` says.
    """
    if isinstance(by, int):
        whole = len(rows) - len(rows) % by
        return [rows[i - i % by].where if i < whole else None for i in range(len(rows))]
    values = [row(by) for row in rows]
    starts: list[int] = []
    for i, value in enumerate(values):
        starts.append(starts[-1] if i and values[i - 1] == value else i)
    cut = starts[-1] if rows and following is not None and following(by) == values[-1] else len(rows)
    return [rows[start].where if start < cut else None for start in starts]


def choice(query: str, choices: Sequence[str], answer: int, *, id: str = "") -> Group:
    """A plain-text item: the query, and choices that begin with their space and end without an end token."""
    return _group(query, choices, id, {"answer": answer})


# ------------------------------------------------------------------------------------------ few-shot


def with_shots(
    task: TaskFile, items: Sequence[Group], pool: Sequence[Group], num: int, seed: int, draw: int = 0
) -> tuple[list[Group], list[str]]:
    """The items behind `num` demonstrations of the pool, and the demonstrations' ids.

    The same for every item, chosen by the seed and the draw; no demonstration is an item. Raises E702 for a
    task that takes none, E828 where the pool is too small.
    """
    if num == 0:
        return list(items), []
    if task.form == "chat" or task.score in ("document", "ranking"):
        raise TrueupError(
            "E702", "the task takes no demonstrations", where=f"task {task.name}", remedy="leave --shots out"
        )
    asked = {item.prompt[0].content for item in items}
    free = [shot for shot in pool if shot.prompt[0].content not in asked]
    if len(free) < num:
        raise TrueupError(
            "E828",
            f"{num} demonstrations of {len(free)} rows that are no items",
            where=f"task {task.name}",
            remedy=f"give a training split with --demonstrations.{task.name}, or at most --shots {len(free)}",
        )
    chosen = [free[i] for i in permutation(len(free), seed, "shots", task.name, draw)[:num]]
    head = _headed(task, "")
    shown = [shot.prompt[0].content.removeprefix(head) + _right(shot) for shot in chosen]
    front = head + "".join(text + task.separator for text in shown)
    moved = [
        replace(item, prompt=(Message(Role.TEXT, front + item.prompt[0].content.removeprefix(head)),))
        for item in items
    ]
    return moved, [shot.id for shot in chosen]


def _right(shot: Group) -> str:
    # A worked answer is the only completion, and its meta holds the number.
    return shot.completions[0 if len(shot.completions) == 1 else answer_of(shot)].text


def _headed(task: TaskFile, query: str) -> str:
    return f"{task.before}{task.separator}{query}" if task.before else query


# ------------------------------------------------------------------------------------------ rows


def _rows(source: Source) -> Iterator[_Row]:
    if source.columns:
        yield from _nameless(source)
        return
    for raw in rows_of(source.path, source.split):
        if raw.blank:
            continue
        where = f"{raw.file}:{raw.line}"
        try:
            yield _Row(where, decode(raw), source.fields)
        except Fault as fault:
            raise TrueupError(fault.code, fault.reason, where=where, remedy=fault.remedy) from None


def _nameless(source: Source) -> Iterator[_Row]:
    """Rows of a CSV file without a line of names."""
    path = Path(source.path)
    with opened(path, source.path) as file, _as_csv(path.name):
        text = io.TextIOWrapper(cast(BinaryIO, file), encoding="utf-8", newline="")
        for number, cells in enumerate(csv.reader(text, strict=True), 1):
            where = f"{path.name}:{number}"
            if len(cells) != len(source.columns):
                raise TrueupError(
                    "E203",
                    f"{counted(len(cells), 'cell')}, {counted(len(source.columns), 'column')}",
                    where=where,
                    remedy="name a CSV file that has these columns and no line of names",
                )
            yield _Row(where, dict(zip(source.columns, cells, strict=True)), source.fields)


@contextmanager
def _as_csv(name: str) -> Iterator[None]:
    try:
        yield
    except csv.Error as error:
        remedy = "double the quotes inside a quoted cell"
        raise TrueupError("E115", f"not CSV: {error}", where=name, remedy=remedy) from None
    except UnicodeDecodeError:
        remedy = "convert the file, for example `iconv -f latin1 -t utf-8 OLD > NEW`"
        raise TrueupError("E101", "not UTF-8", where=name, remedy=remedy) from None


# ------------------------------------------------------------------------------------------ parts of an item


def _ordered(task: TaskFile, row: Mapping[str, Any], where: str, names: Mapping[str, str]) -> dict[str, Any]:
    """`first`, `second` and `swapped` of a pair, by a coin that depends on the two texts alone."""
    if task.pair is None:
        return {}
    value = _Row(where, row, names)
    texts = [str(value(name)) for name in task.pair]
    swapped = derive(0, "pair", *texts) % 2
    return {"first": texts[swapped], "second": texts[1 - swapped], "swapped": swapped}


def _entries(task: TaskFile, value: _Row) -> list[str]:
    """The texts of `each`."""
    if not task.each:
        return []
    found = value(task.each)
    if not isinstance(found, list) or not all(isinstance(entry, str) for entry in found):
        remedy = 'write it as ["...", "..."], or mend `each` of the task file'
        raise TrueupError("E205", f"`{task.each}` is no list of texts", where=value.where, remedy=remedy)
    if not found:
        raise TrueupError("E207", f"`{task.each}` is empty", where=value.where, remedy="leave the row out")
    return found


def _tidy(task: TaskFile, text: str) -> str:
    return clean(text) if task.clean == "wikihow" else text


def _truth(task: TaskFile, value: _Row, choices: Sequence[str], entries: Sequence[str]) -> dict[str, Any]:
    """What is right, as `meta` holds it."""
    if task.flags:
        flags = value(task.flags)
        if not isinstance(flags, list) or len(flags) != len(choices):
            reason = f"`{task.flags}` is not one flag for each of {counted(len(choices), 'choice')}"
            raise TrueupError("E206", reason, where=value.where, remedy="repair the row")
        true = [_flag(flag, task.flags, value.where) for flag in flags]
        if True not in true:
            raise TrueupError("E206", "no choice is true", where=value.where, remedy="leave the row out")
        return {"answer": true.index(True), "true": true}
    answer = task.answer
    if answer is None:
        return {"answer": 0}
    found: Any = value(answer) if isinstance(answer, str) else answer
    if task.score == "number":
        number = last_number(str(found))
        if number is None:
            raise TrueupError("E206", f"no number in `{answer}`", where=value.where, remedy="repair the row")
        return {"answer": str(number)}
    index = _index(found, value(task.labels) if task.labels else None)
    if index is None or not 0 <= index < len(choices):
        raise TrueupError(
            "E206",
            f"`{answer}` is {found!r}, with {counted(len(choices), 'choice')}",
            where=value.where,
            remedy="an index from 0, a letter from A, or a name that `labels` lists",
        )
    return {"answer": index}


def _index(found: Any, labels: Any) -> int | None:
    if labels is not None:
        return labels.index(found) if isinstance(labels, list) and found in labels else None
    if isinstance(found, int):
        return int(found)
    text = str(found).strip()
    if text.isdecimal():
        return int(text)
    return ord(text) - ord("A") if len(text) == 1 and "A" <= text <= "Z" else None


def _flag(value: Any, name: str, where: str) -> bool:
    if isinstance(value, bool) or value in (0, 1):
        return bool(value)
    raise TrueupError("E212", f"`{name}` holds {value!r}", where=where, remedy="flags are 0 or 1")


def _group(query: str, choices: Sequence[str], where: str, meta: Mapping[str, Any]) -> Group:
    return Group(
        prompt=(Message(Role.TEXT, query),),
        completions=tuple(Completion(text=text, finished=False) for text in choices),
        id=where,
        meta=dict(meta),
    )
