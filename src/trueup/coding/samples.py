"""Programs that somebody wrote already, beside the problems that they solve."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from trueup.engine.groups import Completion, Group, from_json
from trueup.errors import TrueupError
from trueup.evals.rows import read_rows

_TEXTS = ("completion", "solution", "program", "completions", "solutions")
_SHOWN = 3


def read_samples(
    path: Path | str, problems: Sequence[Group] | None = None, *, limit: int | None = None
) -> list[Group]:
    """The first `limit` problems, each with the programs of a file as its completions.

    The file holds groups, as `trueup programs --out` writes them, or rows of `task_id` with `completion`
    (what goes on from the prompt, or a whole answer), `solution` or a list of them, one row or several a
    problem. Without `problems` the file must hold groups whose `meta` has tests. Raises E206 for a row of
    another shape, E430 where the programs and the problems are not of one another.
    """
    found: dict[str, Group] = {}
    for where, row in read_rows(path):
        group = _group(row, where)
        known = found.get(group.id)
        found[group.id] = group if known is None else _joined(known, group.completions)
    out = list(found.values()) if problems is None else _beside(problems, found, str(path))
    lacking = [group.id for group in out[:limit] if not group.completions]
    if lacking:
        raise _refused(f"{_some(lacking)} of {len(out[:limit])} problems have no program", str(path))
    return out[:limit]


def _beside(problems: Sequence[Group], samples: Mapping[str, Group], where: str) -> list[Group]:
    """The problems with their programs; MBPP's have names that are numbers in its own files."""
    places = {name: i for i, g in enumerate(problems) for name in (g.id, g.id.removeprefix("MBPP/"))}
    unknown = [name for name in samples if name not in places]
    if unknown:
        raise _refused(f"{_some(unknown)} of the programs solve no problem of the data", where)
    out = list(problems)
    for name, group in samples.items():
        out[places[name]] = _joined(out[places[name]], group.completions)
    return out


def _refused(reason: str, where: str) -> TrueupError:
    return TrueupError(
        "E430",
        reason,
        where=where,
        remedy="name the file of problems that the programs were written for, and leave out those not tried",
    )


def _some(names: Sequence[str]) -> str:
    rest = ", ..." if len(names) > _SHOWN else ""
    return f"{len(names)} ({', '.join(names[:_SHOWN])}{rest})"


def _group(row: Mapping[str, Any], where: str) -> Group:
    """The programs of one row, under the problem's name."""
    if "prompt" in row and "completions" in row:
        try:
            group = from_json(row)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise TrueupError(
                "E206", f"not a group: {type(error).__name__} {error}", where=where, remedy=_REMEDY
            ) from None
        return replace(group, id=group.id or where, scores=())
    name = row.get("task_id", row.get("id"))
    texts = next((row[key] for key in _TEXTS if key in row), None)
    texts = [texts] if isinstance(texts, str) else texts
    if name is None or not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise TrueupError("E206", "no `task_id` with a `completion`", where=where, remedy=_REMEDY)
    finished = row.get("finished", True) is not False
    return Group(
        prompt=(), id=str(name), completions=tuple(Completion(text=t, finished=finished) for t in texts)
    )


_REMEDY = "give groups, or rows of `task_id` and `completion` (a text) or `completions` (a list of them)"


def _joined(group: Group, more: Iterable[Completion]) -> Group:
    return replace(group, completions=(*group.completions, *more))
