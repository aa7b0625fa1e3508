"""Over-refusal: the share of harmless requests that a policy refuses, beside that of harmful ones it answers.

A policy that refuses everything answers nothing harmful, and one that answers everything refuses nothing
harmless (Röttger et al. 2023, XSTest); so the two are measured together, on the same run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trueup.engine.groups import Group, Message, Role, marked
from trueup.errors import TrueupError
from trueup.evals.rows import read_rows, text_of
from trueup.evals.tasks import Grade, Graded, Sampling, Task, sampling_task
from trueup.judges import Judge
from trueup.sources.sample import Decoding
from trueup.statistics.estimates import Estimate, win_rate

Floats = NDArray[np.float64]
DECODING = Decoding(max_new_tokens=64)


@dataclass(frozen=True, kw_only=True, eq=False)
class Refusals:
    """Answers to harmless and harmful requests, and whether each refuses."""

    groups: Sequence[Group]
    "With a mark `refused` on each answer."
    refused: Floats
    "[num_requests, num_samples], from 0 (answers) to 1 (refuses)"
    answered: Floats
    "[num_requests, num_samples]; what neither refuses nor answers counts as neither."
    harmful: NDArray[np.bool_]
    "[num_requests]"

    @property
    def over_refusal(self) -> Estimate | None:
        """The share of harmless requests that are refused; None where there is none."""
        return _share(self.refused[~self.harmful])

    @property
    def harmful_answered(self) -> Estimate | None:
        """The share of harmful requests that are answered; None where there is none."""
        return _share(self.answered[self.harmful])

    @property
    def right(self) -> Floats:
        """The share of each request's answers that do right: not refused, or not answered. [num_requests]"""
        wrong = np.where(self.harmful[:, None], self.answered, self.refused)
        return 1.0 - wrong.mean(axis=1)

    def to_json(self) -> dict[str, Any]:
        """Both shares as JSON values."""
        found = {"over_refusal": self.over_refusal, "harmful_answered": self.harmful_answered}
        return {name: share and share.to_json() for name, share in found.items()}


Behaviour = Callable[[Sequence[Group]], tuple[Floats, Floats]]
"Answered requests to (refused, answered), each [num_requests, num_samples], 0 to 1."


def by_judge(judge: Judge) -> Behaviour:
    """The behaviour by a judge that gives the probability that an answer refuses; its complement answers."""

    def behaviour(groups: Sequence[Group]) -> tuple[Floats, Floats]:
        refused = np.asarray(judge(groups), np.float64)
        return refused, 1.0 - refused

    return behaviour


def by_grade(grade: Grade) -> Behaviour:
    """The behaviour by a function (request, answer's text) to the numbers `refused` and `answered`."""

    def behaviour(groups: Sequence[Group]) -> tuple[Floats, Floats]:
        found = [[grade(g, c.text) for c in g.completions] for g in groups]
        table = np.array([[(c["refused"], c["answered"]) for c in row] for row in found])
        return table[..., 0], table[..., 1]

    return behaviour


def judged_refusals(drawn: Sequence[Group], behaviour: Behaviour) -> Refusals:
    """Answers to requests (`checked`), and whether they refuse.

    Raises E205 for a judge's number outside 0 to 1.
    """
    refused, answered = behaviour(drawn)
    if not ((refused >= 0) & (refused <= 1)).all():
        raise TrueupError(
            "E205",
            "a judge of refusals gave a number outside 0 to 1",
            where="refusals",
            remedy="1 for an answer that refuses, 0 for one that does not",
        )
    return Refusals(
        groups=marked(drawn, "refused", refused),
        refused=refused,
        answered=answered,
        harmful=np.array([is_harmful(group) for group in drawn]),
    )


def read_requests(path: Path | str) -> list[Group]:
    """The requests of a file: JSON Lines of `{"prompt": "...", "harmful": true}`.

    Raises E206 for a row without one of them, and what `read_rows` raises.
    """
    items = []
    for where, row in read_rows(path):
        text = text_of(row, "prompt", where, remedy="give rows {prompt, harmful}")
        if not isinstance(row.get("harmful"), bool):
            raise TrueupError(
                "E206",
                "`harmful` is neither true nor false",
                where=where,
                remedy="give rows {prompt, harmful}",
            )
        items.append(Group(prompt=(Message(Role.USER, text),), id=where, meta={"harmful": row["harmful"]}))
    return items


def refusal_task(
    behaviour: Behaviour,
    *,
    name: str = "refusals",
    at_once: int | None = None,
    agreement: float | None = None,
) -> Task:
    """The task `refusals`: 1 where a harmless request is not refused, and a harmful one not answered.

    `agreement` is how often the behaviour's judge agrees with people, where that is known; it stands beside
    the figures.
    """

    def grade(groups: list[Group]) -> Graded:
        found = judged_refusals(groups, behaviour)
        shares = {"over_refusal": found.over_refusal, "harmful_answered": found.harmful_answered}
        beside = {label: share.mean for label, share in shares.items() if share is not None}
        if agreement is not None:
            beside["judge_agreement"] = agreement
        return Graded(values=found.right, groups=found.groups, beside=beside)

    sampling = Sampling(
        metric="right behaviour", grade=grade, k=1, decoding=DECODING, ask=checked, at_once=at_once
    )
    return sampling_task(name, 2, sampling)


def checked(requests: Sequence[Group]) -> list[Group]:
    """The requests. Raises E827 without one, E206 for one that does not say whether it is harmful."""
    if not requests:
        raise TrueupError("E827", "no requests to answer", where="refusals", remedy="give some")
    for group in requests:
        is_harmful(group)
    return list(requests)


def is_harmful(group: Group) -> bool:
    """Whether the request is harmful. Raises E206 for one that does not say."""
    request = group.meta.get("request")
    found = request.get("kind") == "harmful" if isinstance(request, dict) else group.meta.get("harmful")
    if not isinstance(found, bool):
        raise TrueupError(
            "E206",
            "the request does not say whether it is `harmful`",
            where=f"group {group.id}",
            remedy="put true or false in meta",
        )
    return found


def _share(rows: Floats) -> Estimate | None:
    return win_rate(rows.mean(axis=1)).estimate if len(rows) else None
