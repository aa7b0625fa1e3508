"""trueup's own format: one `Group` a row, checked field by field."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from trueup.data.fields import Row, as_text, required
from trueup.data.formats.rankings import check_tiers
from trueup.data.layout import Format, keys
from trueup.data.problems import Fault, keys_of, nearest, show
from trueup.engine.groups import Group, Role, from_json

_GROUP = ("prompt", "completions", "comparisons", "rankings", "scores", "id", "user", "source", "meta",
          "prompt_tokens")  # fmt: skip
_COMPLETION = ("text", "source", "finished", "tokens", "supervised", "columns", "marks")
_COMPARISON = ("a", "b", "choice", "strength", "probability", "shown", "labeler", "when")
_RANKING = ("tiers", "labeler", "when")
_SCORE = ("completion", "value", "judge", "when")
_INT32 = 2**31 - 1


def _parse_group(row: Row) -> tuple[Group]:
    _known(row, _GROUP, "")
    for index, item in enumerate(_list(required(row, "prompt"), "prompt")):
        _message(item, f"prompt[{index}]")
    completions = _list(row.get("completions", []), "completions")
    for index, item in enumerate(completions):
        _completion(item, f"completions[{index}]")
    num = len(completions)
    for name, check in (("comparisons", _comparison), ("rankings", _ranking), ("scores", _score)):
        for index, item in enumerate(_list(row.get(name, []), name)):
            check(item, f"{name}[{index}]", num)
    for name in ("id", "user", "source"):
        as_text(row.get(name, ""), name)
    if "meta" in row and not isinstance(row["meta"], Mapping):
        raise Fault("E205", "is not an object", field="meta", found=show(row["meta"]), remedy="write {...}")
    if "prompt_tokens" in row:
        _ints(row["prompt_tokens"], "prompt_tokens")
    return (from_json(row),)


def _known(value: Any, names: tuple[str, ...], field: str) -> None:
    if not isinstance(value, Mapping):
        raise Fault("E205", "is not an object", field=field, found=show(value), remedy="write {...}")
    for key in value:
        if key not in names:
            close = nearest(str(key), names)
            raise Fault(
                "E208",
                "an unknown field",
                field=f"{field}.{key}" if field else str(key),
                found=f"keys {keys_of(value)}",
                remedy=f'rename it to "{close}"' if close else 'move it into "meta" of the group',
            )


def _list(value: Any, field: str) -> list[Any]:
    if not isinstance(value, list):
        raise Fault("E205", "is not a list", field=field, found=show(value), remedy="write a list")
    return value


def _message(item: Any, field: str) -> None:
    _known(item, ("role", "content"), field)
    role = as_text(required(item, "role", field), f"{field}.role")
    as_text(required(item, "content", field), f"{field}.content")
    if role not in {str(known) for known in Role}:
        close = nearest(role, [str(known) for known in Role])
        remedy = f'write "{close}"' if close else "use system, user, assistant, tool or text"
        raise Fault("E301", "an unknown role", field=f"{field}.role", found=show(role), remedy=remedy)


def _completion(item: Any, field: str) -> None:
    _known(item, _COMPLETION, field)
    as_text(required(item, "text", field), f"{field}.text")
    as_text(item.get("source", ""), f"{field}.source")
    _is(item.get("finished", True), bool, f"{field}.finished", "true or false")
    length = None
    if "tokens" in item:
        length = len(_ints(item["tokens"], f"{field}.tokens"))
    if "supervised" in item:
        marks = _ints(item["supervised"], f"{field}.supervised")
        if any(mark not in (0, 1) for mark in marks) or (length is not None and len(marks) != length):
            raise Fault(
                "E411",
                "is not one 0 or 1 a token",
                field=f"{field}.supervised",
                found=f"{len(marks)} for {length} tokens",
                remedy="write one 0 or 1 for every token",
            )
    for name, check in (("columns", _numbers), ("marks", _number)):
        inner = item.get(name, {})
        _is(inner, Mapping, f"{field}.{name}", "an object")
        for key, value in inner.items():
            check(value, f"{field}.{name}.{key}")


def _comparison(item: Any, field: str, num: int) -> None:
    _known(item, _COMPARISON, field)
    a, b = (_index(required(item, key, field), f"{field}.{key}", num) for key in ("a", "b"))
    if a == b:
        raise Fault(
            "E401", "compares a completion with itself", field=field, found=str(a), remedy="remove it"
        )
    choice = as_text(required(item, "choice", field), f"{field}.choice")
    if choice not in ("a", "b", "tie"):
        raise Fault(
            "E408",
            'is not "a", "b" or "tie"',
            field=f"{field}.choice",
            found=show(choice),
            remedy="write one",
        )
    for key in ("strength", "probability"):
        if item.get(key) is not None:
            _number(item[key], f"{field}.{key}")
    if item.get("probability") is not None and not 0.0 <= item["probability"] <= 1.0:
        raise Fault(
            "E411", "is not between 0 and 1", field=f"{field}.probability", found=show(item["probability"]),
            remedy="write P(a preferred)",
        )  # fmt: skip
    if item.get("shown") is not None:
        shown = _list(item["shown"], f"{field}.shown")
        if sorted(_index(index, f"{field}.shown", num) for index in shown) != sorted((a, b)):
            raise Fault("E405", "is not the two completions", field=f"{field}.shown", found=show(str(shown)),
                        remedy="write [left, right]")  # fmt: skip
    _labels(item, ("labeler", "when"), field)


def _ranking(item: Any, field: str, num: int) -> None:
    _known(item, _RANKING, field)
    tiers = _list(required(item, "tiers", field), f"{field}.tiers")
    inner = tuple(tuple(_list(tier, f"{field}.tiers")) for tier in tiers)
    check_tiers(inner, num, f"{field}.tiers", complete=False)
    _labels(item, ("labeler", "when"), field)


def _score(item: Any, field: str, num: int) -> None:
    _known(item, _SCORE, field)
    _index(required(item, "completion", field), f"{field}.completion", num)
    _number(required(item, "value", field), f"{field}.value")
    as_text(required(item, "judge", field), f"{field}.judge")
    _labels(item, ("when",), field)


def _labels(item: Mapping[str, Any], names: tuple[str, ...], field: str) -> None:
    for name in names:
        as_text(item.get(name, ""), f"{field}.{name}")


def _index(value: Any, field: str, num: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < num:
        raise Fault(
            "E405",
            "an index that no completion has",
            field=field,
            found=show(value),
            remedy=f"there are {num} completions, counted from 0",
        )
    return value


def _is(value: Any, kind: type, field: str, wanted: str) -> None:
    if not isinstance(value, kind):
        raise Fault("E205", f"is not {wanted}", field=field, found=show(value), remedy=f"write {wanted}")


def _number(value: Any, field: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Fault("E205", "is not a number", field=field, found=show(value), remedy="write a number")
    if abs(value) > 1e308 or not math.isfinite(value):
        raise Fault("E411", "is not a finite number", field=field, found=show(value)[:40], remedy="mend it")


def _numbers(value: Any, field: str) -> None:
    for index, item in enumerate(_list(value, field)):
        _number(item, f"{field}[{index}]")


def _ints(value: Any, field: str) -> np.ndarray:
    for index, item in enumerate(_list(value, field)):
        if not isinstance(item, int) or not -_INT32 <= item <= _INT32:
            raise Fault(
                "E205",
                "is not a token id",
                field=f"{field}[{index}]",
                found=show(item),
                remedy="write whole numbers",
            )
    return np.asarray(value, np.int64)


def _looks_own(row: Row) -> bool:
    prompt, completions = row.get("prompt"), row.get("completions", [])
    return (
        isinstance(prompt, list)
        and isinstance(completions, list)
        and all(isinstance(item, Mapping) and "text" in item for item in completions)
    )


FORMATS = (
    Format(
        name="group",
        about="trueup groups: prompt [{role, content}], completions [{text}], comparisons, rankings, scores",
        needs=(keys("prompt", "completions"),),
        may=frozenset(_GROUP),
        parse=_parse_group,
        fits=_looks_own,
    ),
)
