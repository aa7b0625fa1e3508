"""Solutions whose steps were judged one by one, as a stepwise reward model learns from them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from trueup.engine.groups import Completion, Group
from trueup.engine.views import flat
from trueup.errors import TrueupError

KEY = "steps"
"In a group's meta: for each completion a list of {text, label}."
Neutral = Literal["skip", "right", "wrong"]


def step_ends(
    tokens: np.ndarray, steps: Sequence[str], decode: Callable[[np.ndarray], str]
) -> list[int] | None:
    """For each step, how many tokens have said its last character; None where the text does not hold them.

    The steps stand in the text in their order, with anything between them. White space around a step is not
    part of it.
    """
    text, cursor, found = decode(tokens), 0, []
    for step in steps:
        start = text.find(step.strip(), cursor)
        if start < 0:
            return None
        cursor = start + len(step.strip())
        said = text[:cursor]
        counts = range(1, len(tokens) + 1)
        found.append(
            1 + bisect_left(counts, True, key=lambda n, said=said: decode(tokens[:n]).startswith(said))
        )
    return found


def read_at(completion: Completion, places: Sequence[int]) -> Completion:
    """The completion supervised where steps have ended: at the token after each, whose state has read them.

    The end token is the one after the last step.
    """
    mask = np.zeros(completion.num_tokens, bool)
    mask[list(places)] = True
    return replace(completion, supervised=mask, columns={}, marks={})


def with_steps(
    groups: Sequence[Group], decode: Callable[[np.ndarray], str], *, neutral: Neutral, first_error: bool
) -> Sequence[Group]:
    """The groups whose steps were judged, with the column `step_label` at the token after every judged step.

    A label is true or false, or the probability that the step is right; null is neither, and counts as
    `neutral` says. With `first_error` nothing is learned after a completion's first wrong step. A step that
    ends a completion which has no end token is left out: no state has read it. Raises E440 for steps of
    another shape, E441 where a completion's text does not hold its steps.
    """

    def read(group: Group) -> tuple[Group, ...]:
        made = [
            _labelled(group, completion, steps, decode, neutral, first_error)
            for completion, steps in zip(group.completions, _judged(group), strict=True)
        ]
        completions = tuple(c for c in made if c is not None)
        left = replace(group, completions=completions, comparisons=(), rankings=(), scores=())
        return (left,) if completions else ()

    return flat(groups, read)


def _labelled(
    group: Group,
    completion: Completion,
    steps: Sequence[tuple[str, float | None]],
    decode: Callable[[np.ndarray], str],
    neutral: Neutral,
    first_error: bool,
) -> Completion | None:
    """The completion with its labels; None where no step of it can be learned from."""
    assert completion.tokens is not None, "encode the group first"
    ends = step_ends(completion.tokens, [text for text, _ in steps], decode)
    if ends is None:
        raise TrueupError(
            "E441",
            "a completion's text does not hold its steps, one after the other",
            where=f"group {group.id}",
            remedy="let the text be the steps joined, and data.train_on be last",
        )
    read: dict[int, float] = {}
    for place, (_, label) in zip(ends, steps, strict=True):
        said = {"skip": None, "right": 1.0, "wrong": 0.0}[neutral] if label is None else label
        if said is not None and place < completion.num_tokens:
            read[place] = min(said, read.get(place, 1.0))
        if first_error and said is not None and said < 0.5:
            break
    if not read:
        return None
    labels = np.array([read[place] for place in sorted(read)])
    return read_at(completion, sorted(read)).with_columns(step_label=labels)


def _judged(group: Group) -> list[list[tuple[str, float | None]]]:
    """The steps of each completion; none where the group says nothing of them."""
    given: Any = group.meta.get(KEY, [[] for _ in group.completions])
    if isinstance(given, list) and len(given) == len(group.completions):
        rows = [row for row in given if isinstance(row, list) and all(map(_is_step, row))]
        if len(rows) == len(given):
            return [
                [(s["text"], None if s["label"] is None else float(s["label"])) for s in row] for row in rows
            ]
    raise TrueupError(
        "E440",
        f"meta.{KEY} is no list of {{text, label}} for each completion",
        where=f"group {group.id}",
        remedy="write true, false, null or a probability as the label of each step",
    )


def _is_step(step: Any) -> bool:
    if not isinstance(step, Mapping) or not isinstance(step.get("text"), str) or not step["text"].strip():
        return False
    label = step.get("label", "")
    return label is None or (isinstance(label, bool | int | float) and 0 <= label <= 1)
