"""A dump of training rows as any stack can write it: one JSON object a line, read strictly.

`docs/doctor.md` has the keys. A per-token list has one entry for each id, null where there is none, or one
for each token in the loss, in order. Log-probs that are NaN or infinite are read: a finding is made of them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from trueup.errors import TrueupError

IGNORED = -100
"What a label says where there is no loss."


@dataclass(frozen=True, kw_only=True, eq=False)
class Row:
    """One line of a dump; what it does not say is None.

    A per-token column has an entry for each of the L ids. One of numbers is NaN where the line has none, and
    infinite where it has a number that is not finite.
    """

    line: int
    "From 1: how the row is named in a finding."
    ids: np.ndarray
    loss: np.ndarray | None = None
    "Whether a token is in the loss, bool [L]."
    labels: np.ndarray | None = None
    attention: np.ndarray | None = None
    "Whether a token is attended to, bool [L]; padding is not."
    sampler: np.ndarray | None = None
    trainer: np.ndarray | None = None
    advantages: np.ndarray | None = None
    advantage: float | None = None
    "The row's one advantage, where it has one for all its tokens."
    reward: float | None = None
    temperature: float | None = None
    group: str | int | None = None
    row: str | int | None = None
    step: int | None = None
    epoch: int | None = None
    position: int | None = None
    text: str | None = None
    messages: tuple[Mapping[str, str], ...] | None = None
    sampler_ids: np.ndarray | None = None

    @property
    def real(self) -> np.ndarray:
        """Where the attended tokens are, increasing; all of them where no mask is given."""
        return np.arange(len(self.ids)) if self.attention is None else np.flatnonzero(self.attention)

    @property
    def trained(self) -> np.ndarray | None:
        """Whether a token is in the loss as the loss sees it: nothing predicts the first id."""
        if self.loss is None:
            return None
        found = self.loss.copy()
        found[:1] = False
        return found

    @property
    def sampled(self) -> bool:
        """Whether a policy wrote the row, as log-probs of a sampler or advantages say."""
        return self.sampler is not None or self.advantage is not None or self.advantages is not None

    @property
    def keeps_ids(self) -> bool:
        """Whether the ids that the sampler wrote, where they are told, stand in the row as they are."""
        part, ids = self.sampler_ids, self.ids[self.real]
        if part is None or len(part) > len(ids):
            return part is None
        windows = np.lib.stride_tricks.sliding_window_view(ids, len(part))
        return bool((windows == part).all(1).any())


def read_dump(path: str | Path) -> list[Row]:
    """The rows of a dump.

    Raises E980 for a line that is no JSON object, E981 for an unknown key, E982 for a missing or wrong value,
    E983 for lists whose lengths disagree, E984 where there is no row.
    """
    rows = []
    with Path(path).open("rb") as file:
        for number, raw in enumerate(file, 1):
            if raw.strip():
                rows.append(row_of(_object(raw, f"{path}:{number}"), line=number, where=f"{path}:{number}"))
    if not rows:
        raise TrueupError("E984", "no rows", where=str(path), remedy="write one JSON object a line")
    return rows


def row_of(given: Mapping[str, Any], *, line: int, where: str = "a row") -> Row:
    """The row that a mapping describes. Raises E981 to E983, as `read_dump`."""
    for key in given:
        if key not in KEYS:
            near = get_close_matches(key, KEYS, 1)
            remedy = f"did you mean `{near[0]}`?" if near else f"a line may have {', '.join(KEYS)}"
            raise TrueupError("E981", f"unknown key {key!r}", where=where, remedy=remedy)
    if given.get("input_ids") is None:
        raise TrueupError("E982", "no input_ids", where=where, remedy="write the token ids of every row")
    read = {k: _read(k, value, where) for k, value in given.items() if value is not None}
    ids = read.pop("input_ids")
    labels, loss, attention = (
        read.pop("labels", None),
        read.pop("loss_mask", None),
        read.get("attention_mask"),
    )
    for key, flags in (("labels", labels), ("loss_mask", loss), ("attention_mask", attention)):
        if flags is not None and len(flags) != len(ids):
            raise _lengths(key, len(flags), f"{len(ids)} ids", where)
    if labels is not None and loss is None:
        loss = labels != IGNORED
    per_token = {
        name: _spread(read[key], key, len(ids), loss, where)
        for name, key in (("sampler", "sampler_logprobs"), ("trainer", "trainer_logprobs"))
        if key in read
    }
    per_token |= _advantages(read.get("advantages"), len(ids), loss, where)
    plain = {key: read[key] for key in _PLAIN if key in read}
    return Row(line=line, ids=ids, loss=loss, labels=labels, attention=attention, **per_token, **plain)


def _object(raw: bytes, where: str) -> dict[str, Any]:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        reason = "not UTF-8" if isinstance(error, UnicodeDecodeError) else "not JSON"
        raise TrueupError("E980", reason, where=where, remedy="write one JSON object a line") from None
    if not isinstance(value, dict):
        kind = type(value).__name__
        raise TrueupError(
            "E980", f"a {kind}, not an object", where=where, remedy='write {"input_ids": [...]}'
        )
    return value


def _read(key: str, value: Any, where: str) -> Any:
    try:
        return KEYS[key](value)
    except (_WrongError, OverflowError) as wrong:
        reason = f"{key} is not {wrong if isinstance(wrong, _WrongError) else 'a list of token ids'}"
        raise TrueupError("E982", reason, where=where, remedy="docs/doctor.md shows each key") from None


class _WrongError(Exception):
    """Says what a value should have been."""


def _must(holds: bool, be: str) -> None:
    if not holds:
        raise _WrongError(be)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _integers(value: Any) -> np.ndarray:
    _must(isinstance(value, list) and len(value) > 0 and all(map(_is_int, value)), "a list of integers")
    return np.array(value, np.int64)


def _flags(value: Any) -> np.ndarray:
    fits = isinstance(value, list) and all(isinstance(v, int | float) and v in (0, 1) for v in value)
    _must(fits, "a list of 0 and 1")
    return np.array(value, bool)


def _numbers(value: Any) -> np.ndarray:
    fits = isinstance(value, list) and all(v is None or _is_number(v) for v in value)
    _must(fits, "a list of numbers, with null where there is none")
    return np.array([math.nan if v is None else _marked(v) for v in value])


def _marked(value: float) -> float:
    return float(value) if math.isfinite(value) else math.inf


def _number(value: Any) -> float:
    _must(_is_number(value), "a number")
    return _marked(value)


def _positive(value: Any) -> float:
    _must(_is_number(value) and 0 < value < math.inf, "a number above 0")
    return float(value)


def _advantage(value: Any) -> Any:
    return _numbers(value) if isinstance(value, list) else _number(value)


def _name(value: Any) -> str | int:
    _must(isinstance(value, str) or _is_int(value), "a string or an integer")
    return value


def _count(value: Any) -> int:
    _must(_is_int(value) and value >= 0, "an integer of at least 0")
    return value


def _text(value: Any) -> str:
    _must(isinstance(value, str), "a string")
    return value


def _messages(value: Any) -> tuple[Mapping[str, str], ...]:
    fits = isinstance(value, list) and all(
        isinstance(m, dict) and isinstance(m.get("role"), str) and isinstance(m.get("content"), str)
        for m in value
    )
    _must(fits and len(value) > 0, "a list of {role, content}")
    return tuple(value)


KEYS: dict[str, Callable[[Any], Any]] = {
    "input_ids": _integers,
    "loss_mask": _flags,
    "labels": _integers,
    "attention_mask": _flags,
    "sampler_logprobs": _numbers,
    "trainer_logprobs": _numbers,
    "sampler_ids": _integers,
    "temperature": _positive,
    "advantages": _advantage,
    "reward": _number,
    "group": _name,
    "row": _name,
    "step": _count,
    "epoch": _count,
    "position": _count,
    "text": _text,
    "messages": _messages,
}
"Every key, and what reads its value."
_PLAIN = (
    *("sampler_ids", "temperature", "reward", "group", "row", "step", "epoch", "position"),
    *("text", "messages"),
)


def _spread(values: np.ndarray, key: str, length: int, loss: np.ndarray | None, where: str) -> np.ndarray:
    """The values with an entry for each id, NaN at the first: nothing comes before it."""
    trained = int(loss.sum()) if loss is not None else None
    if len(values) == length:
        found = values.copy()
    elif loss is not None and len(values) == trained:
        found = np.full(length, math.nan)
        found[loss] = values
    else:
        fits = f"{length} ids" if trained is None else f"{length} ids nor for {trained} tokens in the loss"
        raise _lengths(key, len(values), fits, where)
    found[0] = math.nan
    return found


def _advantages(given: Any, length: int, loss: np.ndarray | None, where: str) -> dict[str, Any]:
    """The row's one advantage, and those of its tokens where they are given one by one."""
    if given is None:
        return {}
    if not isinstance(given, np.ndarray):
        return {"advantage": given}
    each = _spread(given, "advantages", length, loss, where)
    said = each[~np.isnan(each)] if loss is None else each[loss & ~np.isnan(each)]
    one = float(said[0]) if len(said) and np.all(said == said[0]) else None
    return {"advantages": each, "advantage": one}


def _lengths(key: str, found: int, fits: str, where: str) -> TrueupError:
    remedy = "write one entry for each id, null where there is none"
    return TrueupError("E983", f"{key} has {found} entries, not for {fits}", where=where, remedy=remedy)


def columns_of(rows: Sequence[Row]) -> set[str]:
    """The names of the fields that some row has."""
    return {name for name in Row.__dataclass_fields__ if any(getattr(r, name) is not None for r in rows)}
