"""The lab's own truth as a judge: what a completion is worth, computed from the request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from trueup.errors import TrueupError
from trueup.groups import Group
from trueup.lab.graders import Grade, grade

_NAMES = tuple(f.name for f in fields(Grade))


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
