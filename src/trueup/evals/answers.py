"""Questions whose answer is a number: the last number of what a policy writes counts (Cobbe et al. 2021)."""

from __future__ import annotations

import re
from dataclasses import replace
from decimal import Decimal

import numpy as np

from trueup.engine.groups import Group, each, marked
from trueup.evals.tasks import AT_ONCE, Graded, Sampling, Task, sampling_task
from trueup.sources.sample import Decoding

_NUMBER = re.compile(r"(?<!\d)-?\d+(?:,\d{3})*(?:\.\d+)?")


def last_number(text: str) -> Decimal | None:
    """The last number of a text, thousands commas read; None where there is none. `5-3` ends in 3."""
    found = _NUMBER.findall(text)
    return Decimal(found[-1].replace(",", "")) if found else None


def number_task(name: str, version: int, *, max_new_tokens: int, end: str = "") -> Task:
    """The task of answering questions by a number, decoded greedily; 1 where it is the item's `answer`.

    Numbers are compared by value, so that 18.00 is 18. What follows `end` is not read: a plain text goes on
    with a question of its own after its answer.
    """

    def grade(groups: list[Group]) -> Graded:
        read = each(groups, lambda c: replace(c, text=c.text.lstrip().split(end, 1)[0])) if end else groups
        right = np.array([[float(_right(g, c.text)) for c in g.completions] for g in read])
        return Graded(values=right.mean(axis=1), groups=marked(read, "right", right))

    decoding = Decoding(max_new_tokens=max_new_tokens, greedy=True)
    sampling = Sampling(metric="right number", grade=grade, k=1, decoding=decoding, at_once=AT_ONCE)
    return sampling_task(name, version, sampling, chance=0.0)


def _right(group: Group, text: str) -> bool:
    found = last_number(text)
    return found is not None and found == Decimal(group.meta["answer"])
