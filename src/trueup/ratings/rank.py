"""Models rated from a file of battles, scores or judged groups: read, fitted, and put on a board."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from trueup.errors import TrueupError
from trueup.ratings.battles import by_judge, read_battles
from trueup.ratings.design import Control
from trueup.ratings.fit import fit_ratings
from trueup.ratings.leaderboard import leaderboard


def rank(
    path: str | Path,
    *,
    ties: Literal["half", "davidson", "rao-kupper"] = "half",
    control: Sequence[Control] = (),
    prior: float = 0.0,
    intervals: Literal["sandwich", "bootstrap"] = "sandwich",
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
    anchor: str | None = None,
    against: str | None = None,
    judge: str | None = None,
    margin: float = 0.0,
) -> dict[str, Any]:
    """The board of the models in a file, as JSON values; see `leaderboard`.

    Raises E202 for a file of another kind, E428 where `against` has no battle, and what `fit_ratings` raises.
    """
    try:
        found = read_battles(path, margin=margin)
    except TrueupError as error:
        if error.code != "E202":
            raise
        # What the reader of data would say is of its own formats and of options that are not here.
        remedy = (
            "a battle has a, b and outcome (or is a vote of Arena, or an annotation of AlpacaEval); a score "
            "prompt, model and score"
        )
        raise TrueupError("E202", error.reason, where=error.where, remedy=remedy) from None
    if judge is not None:
        found = by_judge(found, judge)
    ratings = fit_ratings(
        found.battles,
        ties=ties,
        alpha=prior,
        controls=tuple(dict.fromkeys(control)),
        anchor=anchor,
        intervals=intervals,
        level=level,
        resamples=resamples,
        seed=seed,
    )
    board = leaderboard(found, ratings, seed=seed)
    if against is not None and against not in {m["model"] for m in board["models"]}:
        raise TrueupError(
            "E428", f"no battle of {against}", where="against", remedy="name a model of the table"
        )
    return board
