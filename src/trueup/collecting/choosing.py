"""Which task is next, of those that are open: where two models are compared, the pair that decides soonest.

As in `trueup battle` (`ratings.pairing`): what has been said so far gives a normal approximation of the
strengths, and of the open pairs of models the one is taken whose answer narrows it most.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import sqlalchemy as sa

from trueup.collecting.schema import answer, task
from trueup.ratings.pairing import all_pairs, next_pairs, posterior

FRESH = 20
"Answers after which the strengths are fitted again."
_WINS = {"a": (1.0, 0.0), "b": (0.0, 1.0), "tie": (0.5, 0.5)}


@dataclass(kw_only=True)
class _Fit:
    names: list[str]
    theta: np.ndarray
    covariance: np.ndarray
    met: np.ndarray
    answers: int


@dataclass(eq=False)
class Pairing:
    """A choice among open tasks; it remembers the last fit."""

    rule: Literal["order", "width", "uniform", "given"]
    _fits: dict[str, _Fit] = field(default_factory=dict)
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, connection: sa.Connection, candidates: Sequence[tuple[int, str]]) -> int:
        """The number of the task that is next; tasks that others have begun come first."""
        first, models = candidates[0]
        pairs = {found: number for number, found in reversed(candidates) if found}
        if self.rule == "given" or not models or len(pairs) < 2:
            return first
        with self._turn:
            fit = self._fit(connection)
        at = {pair: n for n, pair in enumerate(map(tuple, all_pairs(len(fit.names)).tolist()))}
        places = {at[_places(fit.names, pair)]: number for pair, number in pairs.items()}
        left = np.zeros_like(fit.met)
        left[0, list(places)] = 1
        chosen = next_pairs(fit.theta, fit.covariance, fit.met, left, num=1, pairing=self.rule)
        place = int(chosen[0, 0])
        fit.met[0, place] += 1
        return places.get(place, first)

    def _fit(self, connection: sa.Connection) -> _Fit:
        where = (task.c.models != "", task.c.purpose == "work")
        answers = connection.execute(sa.select(sa.func.count(answer.c.id))).scalar_one()
        known = self._fits.get("")
        pairs = connection.execute(sa.select(task.c.models).where(*where).distinct()).scalars().all()
        names = sorted({name for pair in pairs for name in json.loads(pair)})
        if known is not None and answers - known.answers < FRESH and known.names == names:
            return known
        said = connection.execute(
            sa.select(task.c.models, task.c.body, answer.c.body.label("said"))
            .join(answer, answer.c.task == task.c.id)
            .where(*where, answer.c.undone.is_(None), answer.c.skipped == 0)
        ).all()
        fit = _fitted(names, said, answers)
        self._fits[""] = fit
        return fit


def _places(names: list[str], pair: str) -> tuple[int, int]:
    one, other = json.loads(pair)
    return names.index(one), names.index(other)


def _fitted(names: list[str], said: Sequence[Any], answers: int) -> _Fit:
    at = {pair: n for n, pair in enumerate(map(tuple, all_pairs(len(names)).tolist()))}
    wins, met = np.zeros((1, 2, len(at))), np.zeros((1, len(at)), np.int64)
    for row in said:
        place = at[_places(names, row.models)]
        first = json.loads(row.body)["completions"][0].get("source", "")
        one, other = _WINS[json.loads(row.said)["choice"]]
        turned = json.loads(row.models)[0] != first
        wins[0, :, place] += (other, one) if turned else (one, other)
        met[0, place] += 1
    theta, covariance = posterior(wins, len(names))
    return _Fit(names=names, theta=theta, covariance=covariance, met=met, answers=answers)
