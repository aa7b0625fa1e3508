"""Completions that each carry a rank or a score: UltraFeedback as published, lists of {text, rank}."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trueup.data.fields import Row, as_text, filled, listed, number, required, typed
from trueup.data.formats import reads
from trueup.data.formats.pairs import prompt_of
from trueup.data.problems import Fault, keys_of
from trueup.engine.groups import Completion, Group, Ranking, Role, Score

_TEXTS, _SCORES = ("text", "response", "content"), ("score", "overall_score", "rating")
_WRITERS = ("model", "source")


def _rated(row: Row) -> bool:
    held = row.get("completions", row.get("responses"))
    first = held[0] if isinstance(held, list) and held else None
    return isinstance(first, Mapping) and any(key in first for key in ("rank", *_SCORES))


@reads(
    *(f"{asked}, {held}" for asked in ("prompt", "instruction") for held in ("completions", "responses")),
    may="models",
    fits=_rated,
)
def rated(row: Row) -> tuple[Group]:
    """Completions with a rank (1 is best) or a score each: prompt or instruction, completions."""
    asked = "prompt" if "prompt" in row else "instruction"
    key = "completions" if "completions" in row else "responses"
    prompt = prompt_of(required(row, asked), asked, Role.TEXT if asked == "prompt" else Role.USER)
    items = [typed(v, Mapping, f"{key}[{i}]", "an object") for i, v in enumerate(listed(row, key))]
    if len(items) < 2:
        remedy = "an order needs at least two"
        raise Fault("E409", "fewer than two completions", field=key, found=str(len(items)), remedy=remedy)
    scores = _numbers(items, _SCORES, key)
    order = _numbers(items, ("rank",), key) or {index: -value for index, value in scores.items()}
    if len(order) < 2:
        remedy = 'give each a "rank" or a "score"'
        raise Fault("E203", "fewer than two completions are rated", field=key, remedy=remedy)
    levels = sorted(set(order.values()))
    tiers = tuple(tuple(i for i, place in order.items() if place == level) for level in levels)
    group = Group(
        prompt=prompt,
        completions=tuple(_completion(item, f"{key}[{index}]") for index, item in enumerate(items)),
        rankings=(Ranking(tiers=tiers),),
        scores=tuple(Score(completion=i, value=v, judge="score") for i, v in scores.items()),
    )
    return (group,)


def _numbers(items: list[Mapping[str, Any]], names: tuple[str, ...], key: str) -> dict[int, float]:
    """The number that each item has under the first of the names that any has, by the item's place."""
    name = next((n for n in names if any(item.get(n) is not None for item in items)), names[0])
    given = ((i, item[name]) for i, item in enumerate(items) if item.get(name) is not None)
    return {i: number(value, f"{key}[{i}].{name}") for i, value in given}


def _completion(item: Mapping[str, Any], where: str) -> Completion:
    name = next((n for n in _TEXTS if n in item), None)
    if name is None:
        found = f"keys {keys_of(item)}"
        raise Fault("E203", "is missing", field=f"{where}.text", found=found, remedy='add "text"')
    said = filled(as_text(required(item, name, where), f"{where}.{name}"), f"{where}.{name}", code="E402")
    writer = next((str(item[n]) for n in _WRITERS if item.get(n)), "")
    return Completion(text=said, source=writer)
