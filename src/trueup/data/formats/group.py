"""trueup's own format: one `Group` a row, as `engine.groups.to_json` writes it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from trueup.data.fields import Row, as_text, number, required, typed
from trueup.data.formats import reads
from trueup.data.formats.rankings import check_index, check_tiers
from trueup.data.problems import Fault, keys_of, nearest, show
from trueup.data.tools import arguments_of, tools_of
from trueup.engine.groups import Group, Role, from_json
from trueup.errors import counted

_CALLS = [{"name": "text", "arguments?": "arguments", "id?": "text"}]
_MESSAGE = {
    "role": "role", "content": "text", "thinking?": "text", "tool_calls?": _CALLS, "name?": "text",
    "tool_call_id?": "text", "tools?": "tools", "supervised?": "truth",
}  # fmt: skip
_COMPLETION = {
    "text": "text", "thinking?": "text", "tool_calls?": _CALLS, "source?": "text", "finished?": "truth",
    "tokens?": "tokens", "supervised?": "flags", "columns?": {"*": "numbers"}, "marks?": {"*": "number"},
}  # fmt: skip
_SAID = {"labeler?": "text", "when?": "text"}
_COMPARISON = {
    "a": "index", "b": "index", "choice": "choice", "strength??": "number", "probability??": "number",
    "shown??": ["index"], **_SAID,
}  # fmt: skip
SHAPE: dict[str, Any] = {
    "id?": "text",
    "user?": "text",
    "source?": "text",
    "prompt": [_MESSAGE],
    "completions?": [_COMPLETION],
    "comparisons?": [_COMPARISON],
    "rankings?": [{"tiers": [["index"]], **_SAID}],
    "scores?": [{"completion": "index", "value": "number", "judge": "text", "when?": "text"}],
    "meta?": "object",
    "prompt_tokens?": "tokens",
}
"""What a row holds. A list is one of such items, `*` stands for any name; a field with `?` may be left out,
with `??` also be null."""
_INT32 = 2**31 - 1


def _looks_own(row: Row) -> bool:
    prompt, completions = row.get("prompt"), row.get("completions", [])
    return (
        isinstance(prompt, list)
        and isinstance(completions, list)
        and all(isinstance(item, Mapping) and "text" in item for item in completions)
    )


@reads("prompt, completions", may=", ".join(name.strip("?") for name in SHAPE), fits=_looks_own)
def group(row: Row) -> tuple[Group]:
    """trueup groups: prompt [{role, content}], completions [{text}], comparisons, rankings, scores."""
    _check_shape(SHAPE, row, "")
    completions = row.get("completions", [])
    for index, item in enumerate(completions):
        _check_supervised(item, f"completions[{index}].supervised")
    num = len(completions)
    for index, item in enumerate(row.get("comparisons", [])):
        _check_comparison(item, f"comparisons[{index}]", num)
    for index, item in enumerate(row.get("rankings", [])):
        tiers = tuple(map(tuple, item["tiers"]))
        check_tiers(tiers, num, f"rankings[{index}].tiers", complete=False)
    for index, item in enumerate(row.get("scores", [])):
        check_index(item["completion"], f"scores[{index}].completion", num)
    return (from_json(row),)


# ------------------------------------------------------------------------------------------- the shape


def _check_shape(shape: Any, value: Any, field: str) -> None:
    """None. Raises the Fault of the first part of a row that is not of its shape."""
    if isinstance(shape, str):
        _LEAVES[shape](value, field)
    elif isinstance(shape, list):
        for index, item in enumerate(typed(value, list, field, "a list")):
            _check_shape(shape[0], item, f"{field}[{index}]")
    elif "*" in shape:
        for key, item in typed(value, Mapping, field, "an object").items():
            _check_shape(shape["*"], item, f"{field}.{key}")
    else:
        _check_fields(shape, typed(value, Mapping, field, "an object", "write {...}"), field)


def _check_fields(shape: dict[str, Any], value: Row, field: str) -> None:
    inside = f"{field}." if field else ""
    known = [name.strip("?") for name in shape]
    for key in value:
        if key not in known:
            close, found = nearest(str(key), known), f"keys {keys_of(value)}"
            remedy = f'rename it to "{close}"' if close else 'move it into "meta" of the group'
            raise Fault("E208", "an unknown field", field=f"{inside}{key}", found=found, remedy=remedy)
    for key, (name, inner) in zip(known, shape.items(), strict=True):
        if key == name:
            required(value, key, field)
        if key in value and (value[key] is not None or not name.endswith("??")):
            _check_shape(inner, value[key], f"{inside}{key}")


def _role(value: Any, field: str) -> None:
    known = [str(role) for role in Role]
    if as_text(value, field) not in known:
        close = nearest(value, known)
        remedy = f'write "{close}"' if close else "use system, user, assistant, tool or text"
        raise Fault("E301", "an unknown role", field=field, found=show(value), remedy=remedy)


def _choice(value: Any, field: str) -> None:
    if as_text(value, field) not in ("a", "b", "tie"):
        raise Fault("E408", 'is not "a", "b" or "tie"', field=field, found=show(value), remedy="write one")


def _numbers(value: Any, field: str) -> None:
    for index, item in enumerate(typed(value, list, field, "a list")):
        if type(item) is not float or not math.isfinite(item):
            number(item, f"{field}[{index}]")


def _tokens(value: Any, field: str) -> None:
    for index, item in enumerate(typed(value, list, field, "a list")):
        if not isinstance(item, int) or not -_INT32 <= item <= _INT32:
            where, remedy = f"{field}[{index}]", "write whole numbers"
            raise Fault("E205", "is not a token id", field=where, found=show(item), remedy=remedy)


_LEAVES: dict[str, Callable[[Any, str], object]] = {
    "text": as_text,
    "role": _role,
    "choice": _choice,
    "tools": lambda value, field: tools_of(as_text(value, field), field),
    "arguments": lambda value, field: arguments_of(as_text(value, field), field),
    "truth": lambda value, field: typed(value, bool, field, "true or false"),
    "number": number,
    "numbers": _numbers,
    "tokens": _tokens,
    "flags": _tokens,
    "index": lambda value, field: None,  # Once the number of completions is known.
    "object": lambda value, field: typed(value, Mapping, field, "an object", "write {...}"),
}


# ---------------------------------------------------------------------------------- what belongs together


def _check_supervised(item: Row, field: str) -> None:
    marks, length = item.get("supervised", []), len(item.get("tokens", item.get("supervised", [])))
    if "supervised" in item and (len(marks) != length or not set(marks) <= {0, 1}):
        found, remedy = f"{len(marks)} for {counted(length, 'token')}", "write one 0 or 1 for every token"
        raise Fault("E411", "is not one 0 or 1 a token", field=field, found=found, remedy=remedy)


def _check_comparison(item: Row, field: str, num: int) -> None:
    for key in ("a", "b"):
        check_index(item[key], f"{field}.{key}", num)
    a, b, chance, shown = item["a"], item["b"], item.get("probability"), item.get("shown")
    if a == b:
        reason = "compares a completion with itself"
        raise Fault("E401", reason, field=field, found=str(a), remedy="remove it")
    if chance is not None and not 0.0 <= chance <= 1.0:
        field, remedy = f"{field}.probability", "write P(a preferred)"
        raise Fault("E411", "is not between 0 and 1", field=field, found=show(chance), remedy=remedy)
    for index in shown or ():
        check_index(index, f"{field}.shown", num)
    if shown is not None and sorted(shown) != sorted((a, b)):
        found, remedy = show(str(shown)), "write [left, right]"
        raise Fault("E405", "is not the two completions", field=f"{field}.shown", found=found, remedy=remedy)
