"""The lab's own truth as a judge: what a completion is worth, computed from the request."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from trueup.engine.groups import Group
from trueup.errors import TrueupError
from trueup.lab.graders import Grade, grade

_NAMES = tuple(f.name for f in fields(Grade))
PARTS = tuple(name for name in _NAMES if name != "reasons")
"The numbers of a grade, each a judge of its own as `lab:gold/NAME`."


def lab_grade(group: Group, text: str) -> Mapping[str, Any]:
    """The lab's grade of `text` as an answer to the group's prompt: gold and its parts, and `reasons`.

    Raises TrueupError E206 for a group without the lab's `meta["request"]`.
    """
    request = group.meta.get("request")
    if not isinstance(request, Mapping):
        raise TrueupError(
            "E206",
            "the gold judge knows the lab's requests only, and this prompt is none",
            where=f"group {group.id}",
            remedy="judge with a reward model, or with a function of your own: --judge FILE.py:NAME",
        )
    found = grade(request, text)
    return {name: getattr(found, name) for name in _NAMES}


def lab_gold(groups: Sequence[Group]) -> list[list[float]]:
    """The gold reward of every completion, in [0, 1]."""
    return [[float(lab_grade(g, c.text)["gold"]) for c in g.completions] for g in groups]


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldPart:
    """One number of the lab's grade as a judge; what is larger for worse (`toxic`, `evasive`) stays so."""

    name: str

    def __call__(self, groups: Sequence[Group]) -> list[list[float]]:
        """That number of every completion, in [0, 1]."""
        return [[float(lab_grade(g, c.text)[self.name]) for c in g.completions] for g in groups]


def open_part(name: str) -> GoldPart:
    """The judge `lab:gold/NAME`; raises E792 for a name that the grade does not have."""
    if name not in PARTS:
        near = difflib.get_close_matches(name, PARTS, 1)
        raise TrueupError(
            "E792",
            f"the lab's grade has no part {name!r}",
            where="judge",
            remedy=f"did you mean lab:gold/{near[0]}?" if near else f"one of {', '.join(PARTS)}",
        )
    return GoldPart(name=name)
