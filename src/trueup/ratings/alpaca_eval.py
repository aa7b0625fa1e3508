"""AlpacaEval's annotations as battles: two generators' outputs to an instruction, and which was preferred."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from trueup.data.problems import Fault, show
from trueup.ratings.battle import Battle
from trueup.ratings.style import style_of


def is_annotation(keys: set[str]) -> bool:
    """Whether rows with these fields are annotations."""
    return {"generator_1", "generator_2", "preference"} <= keys


def annotation(row: Mapping[str, Any]) -> Battle | None:
    """The battle of one row; None where the annotator gave no preference.

    `preference` is 1 where output_1 is better, 2 where output_2 is, and 1.5 or, as older files have it, 0 for
    a draw; what lies between 1 and 2 is 1 + P(output_2 is better) (Dubois et al. 2024). Raises Fault E420.
    """
    names = [row.get(key) for key in ("generator_1", "generator_2")]
    for key, name in zip(("generator_1", "generator_2"), names, strict=True):
        if not isinstance(name, str) or not name:
            remedy = "name the model"
            raise Fault("E420", "is not a model's name", field=key, found=show(name), remedy=remedy)
    if names[0] == names[1]:
        found, remedy = show(names[1]), "leave it out"
        raise Fault("E420", "a model does not meet itself", field="generator_2", found=found, remedy=remedy)
    win = _win(row.get("preference"))
    if win is None:
        return None
    one, other = row.get("output_1"), row.get("output_2")
    known = isinstance(one, str) and isinstance(other, str)
    asked = (row.get("dataset"), row.get("instruction"), row.get("input"))
    return Battle(
        a=str(names[0]),
        b=str(names[1]),
        win=win,
        lengths=(len(str(one)), len(str(other))) if known else None,
        style=(style_of(str(one)), style_of(str(other))) if known else None,
        prompt="\n".join(str(part) for part in asked if part),
        judge=str(row.get("annotator") or ""),
    )


def _win(preference: Any) -> float | None:
    """What a preference counts for output_1."""
    if preference is None or preference == "":
        return None
    try:
        value = math.nan if isinstance(preference, bool) else float(preference)
    except (TypeError, ValueError):
        value = math.nan
    if value == 0:
        return 0.5
    if not 1 <= value <= 2:
        remedy = "write 1 where output_1 is better, 2 where output_2 is, 1.5 for a draw"
        raise Fault("E420", "no preference", field="preference", found=show(preference), remedy=remedy)
    return 2 - value
