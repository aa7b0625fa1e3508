"""Completions sampled, judged and rated: `generate`, `judge`, `rank`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, final

from trueup.api import shown
from trueup.api.given import Given
from trueup.api.models import GivenModel, as_prompts
from trueup.api.rows import Groups, Source, as_groups
from trueup.api.training import GivenJudge
from trueup.engine import disk
from trueup.evals.completions import generate as complete
from trueup.judges.labelling import How, judge_groups, sentence
from trueup.ratings import leaderboard as boards
from trueup.ratings.rank import rank as rated
from trueup.reports import leaderboard as printed
from trueup.reports.leaderboard import leaderboard_page

if TYPE_CHECKING:
    import pandas


def generate(
    model: GivenModel,
    prompts: str | Source,
    *,
    tokenizer: Any = None,
    k: int = 1,
    judge: GivenJudge | None = None,
    temperature: float = 1.0,
    max_new_tokens: int = 128,
    top_k: int | None = None,
    top_p: float | None = None,
    plain: bool = False,
    template: str | None = None,
    seed: int = 0,
) -> Groups:
    """The prompts, each with `k` completions of a model, or with the favourite that a `judge` has of so many.

    A text is one user's turn, or with `plain` a text to be continued; several are a list of them.
    """
    given = Given(tokenizer=tokenizer)
    chosen, by = given.model(model, "model"), given.plain(judge, "judge")
    with given.holding():
        drawn = complete(
            chosen,
            as_prompts(prompts, plain=plain),
            k=k,
            judge=by,
            temperature=temperature,
            max_new_tokens=max_new_tokens,
            top_k=top_k,
            top_p=top_p,
            template=template,
            seed=seed,
        )
    return Groups(groups=tuple(drawn), source=chosen)


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """Groups with what a judge said of them, and how the judging went."""

    groups: Groups
    by: str
    account: Mapping[str, float]
    "Of comparisons: `pairs`, `inconsistent`, `unread` ... as shares and counts; {} of scores."
    sentence: str
    "The same for people."

    def frame(self) -> pandas.DataFrame:
        """The groups' frame."""
        return self.groups.frame()

    def __str__(self) -> str:
        return f"{self.by}: {self.sentence}"

    def _repr_html_(self) -> str:
        return shown.page(f"judged by {self.by}", [self.sentence])


def judge(
    groups: Source,
    by: GivenJudge,
    *,
    how: How = "apart",
    num_comparisons: int = 0,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
) -> Judged:
    """The groups as `by` judges them: compared by a language model in both orders, or scored by any judge.

    `how` is what is written: `apart` each order's choice, `averaged` one soft label of both, `scores` a
    number for each completion. `num_comparisons` are the pairs compared for each prompt, 0 is all; `out` is
    a file for the groups.
    """
    given = Given()
    name = given.plain(by, "by")
    with given.holding():
        said = judge_groups(as_groups(groups), name, how=how, num_comparisons=num_comparisons, seed=seed)
    result = Judged(
        groups=Groups(groups=tuple(said.groups), source=name),
        by=name,
        account={} if said.account is None else said.account._asdict(),
        sentence=sentence(said),
    )
    if out is not None:
        result.groups.write(out)
    return result


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Ratings:
    """Models on a board, best first, with intervals."""

    board: dict[str, Any]
    "Everything as plain values: models, effects, win rates of every pair."

    @property
    def models(self) -> list[dict[str, Any]]:
        """Each model's row: `model`, `rating`, `low`, `high`, `rank`, `wins`, `battles`, `elo` ..."""
        return self.board["models"]

    def against(self, model: str) -> list[dict[str, Any]]:
        """The win rates of the others against one model, in the order of the board."""
        return boards.against(self.board, model)

    def frame(self) -> pandas.DataFrame:
        """A frame with a row for each model."""
        return shown.frame(self.models)

    def write(self, path: str | os.PathLike[str]) -> Path:
        """The HTML page that was written, with a picture of the ratings."""
        disk.write(Path(path), leaderboard_page(self.board, boards.notes(self.board)))
        return Path(path)

    def __str__(self) -> str:
        rows = [("model", *printed.heads(self.board)), *self._rows()]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        cells = [[f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)] for row in rows]
        lines = ["  ".join(row).rstrip() for row in cells]
        return "\n".join([printed.headline(self.board), *lines, *boards.notes(self.board)])

    def _repr_html_(self) -> str:
        head = ("model", *printed.heads(self.board))
        return shown.page(printed.headline(self.board), boards.notes(self.board), head, self._rows())

    def _rows(self) -> list[tuple[str, ...]]:
        return [(model["model"], *printed.cells(model)) for model in self.models]


def rank(
    battles: Source,
    *,
    ties: Literal["half", "davidson", "rao-kupper"] = "half",
    control: Sequence[Literal["length", "position", "style"]] = (),
    prior: float = 0.0,
    intervals: Literal["sandwich", "bootstrap"] = "sandwich",
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
    anchor: str | None = None,
    judge: str | None = None,
    margin: float = 0.0,
    out: str | os.PathLike[str] | None = None,
) -> Ratings:
    """Models rated from battles by maximum likelihood, with intervals and ranks.

    `battles` are rows of battles (`a`, `b`, `outcome`), of scores (`prompt`, `model`, `score`), or groups
    whose completions name their model as `source`: a file or an object. `out` is an HTML page with a
    picture. The other settings are those of `trueup rank`.
    """
    given = Given()
    with given.files() as file_of:
        board = rated(
            file_of(battles),
            ties=ties,
            control=control,
            prior=prior,
            intervals=intervals,
            level=level,
            resamples=resamples,
            seed=seed,
            anchor=anchor,
            judge=judge,
            margin=margin,
        )
    result = Ratings(board=board)
    if out is not None:
        result.write(out)
    return result
