"""Exams: a task with the items it is run on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trueup.engine.groups import Group
from trueup.evals.tasks import Task
from trueup.evals.view import PolicyView


@dataclass(frozen=True, kw_only=True, eq=False)
class Exam:
    """A task with the items it is run on."""

    task: Task
    items: Sequence[Group]


def run_suite(view: PolicyView, suite: Mapping[str, Exam], seed: int = 0) -> dict[str, NDArray[np.float64]]:
    """One value for each item of each exam; exams that a best-of-n policy cannot sit are left out."""
    found = {}
    for name, exam in suite.items():
        if view.best_of > 1 and not exam.task.samples:
            continue
        found[name] = exam.task.run(view, exam.items, seed)
    return found
