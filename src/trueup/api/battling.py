"""Models that meet, from Python: `battle`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from trueup.api.given import Given
from trueup.api.judging import Ratings
from trueup.api.models import GivenModel, as_prompts
from trueup.api.rows import Groups, Source
from trueup.api.training import GivenJudge
from trueup.battles.run import BATTLES, GROUPS, fight
from trueup.battles.settings import Config, name_of, named
from trueup.engine.groups import Group, read_jsonl
from trueup.errors import TrueupError
from trueup.ratings.pairing import Pairing
from trueup.reports.battle import write_battle


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Battle:
    """How a battle stands: its ratings, its files, and whom it waits for."""

    folder: Path
    ratings: Ratings | None
    "None while too little has been fought."
    waiting: str
    "What people are to do before it goes on; empty where nobody is waited for."
    report: Path | None
    "The page; None while there are no ratings."

    @property
    def battles(self) -> Path:
        """The file of battles that `rank` reads."""
        return self.folder / BATTLES

    @property
    def groups(self) -> Groups:
        """The prompts that were fought on, all answers under their models' names, and every choice."""
        path = self.folder / GROUPS
        return Groups(groups=tuple(read_jsonl(str(path))), source=str(path))

    def __str__(self) -> str:
        return "\n".join(filter(None, (str(self.ratings) if self.ratings else "", self.waiting)))

    def _repr_html_(self) -> str:
        from trueup.api import shown

        return self.ratings._repr_html_() if self.ratings else shown.page("battle", [self.waiting])


def battle(
    models: Mapping[str, GivenModel] | Sequence[GivenModel],
    prompts: str | Source | None = None,
    *,
    by: GivenJudge | Mapping[str, GivenJudge] | Sequence[GivenJudge],
    world: str = "",
    battles: int = 300,
    until: float = 0.0,
    num_prompts: int = 100,
    samples: int = 1,
    temperature: float = 1.0,
    max_new_tokens: int = 128,
    plain: bool = False,
    template: str | None = None,
    pairing: Pairing = "order",
    batch: int = 20,
    prior: float = 0.0,
    seed: int = 0,
    tokenizer: Any = None,
    out: str | os.PathLike[str] = "runs/battle",
    accept_changed_inputs: bool = False,
) -> Battle:
    """Models that answered the same prompts, rated by judges or people who chose between their answers.

    `models` are by name, or named after their folders; objects need names. `prompts` are a file, rows, or
    texts: users' turns, or with `plain` texts to be continued. `by` is a judge or several:
    `lm:MODEL`, what scores, a function, or `people`. A folder that holds a battle of the same settings goes
    on. The other settings are those of `trueup battle`. Raises E432 to E438 for what cannot be fought.
    """
    given = Given(tokenizer=tokenizer)
    file, asked = _prompts(prompts, plain, given)
    config = Config(
        models=_by_name(models, "models", given),
        by=_by_name(by, "by", given),
        prompts=file,
        world=world,
        battles=battles,
        until=until,
        num_prompts=num_prompts,
        samples=samples,
        temperature=temperature,
        max_new_tokens=max_new_tokens,
        template=template,
        pairing=pairing,
        batch=batch,
        prior=prior,
        seed=seed,
    )
    folder = Path(out)
    with given.holding():
        standing = fight(
            config,
            folder,
            say=lambda line: None,
            prompts=asked,
            given=given.inputs,
            accept=accept_changed_inputs,
        )
    board = standing.board
    return Battle(
        folder=folder,
        ratings=None if board is None else Ratings(board=board),
        waiting=standing.waiting,
        report=None if board is None else write_battle(folder),
    )


def _prompts(prompts: Any, plain: bool, given: Given) -> tuple[str, list[Group] | None]:
    """The file of prompts, or the one that rows and texts will lie in, with these."""
    if prompts is None:
        return "", None
    if isinstance(prompts, str | os.PathLike) and Path(prompts).exists():
        return os.fspath(prompts), None
    asked = as_prompts(prompts, plain=plain)
    return given.rows(asked, "prompts", "train"), asked


def _by_name(value: Any, place: str, given: Given) -> dict[str, str]:
    """References by name, of a mapping, of a sequence, or of one."""
    take = given.model if place == "models" else given.plain
    if isinstance(value, Mapping):
        return {str(name): take(one, f"{place}.{name}") for name, one in value.items()}
    values = value if isinstance(value, list | tuple) else [value]
    found: list[str] = []
    for at, one in enumerate(values):
        if place == "models" and not isinstance(one, str | os.PathLike) and not getattr(one, "path", ""):
            remedy = 'give them by name: {"mine": model, "start": "world:base"}'
            raise TrueupError("E436", "a model in memory has no name", where=place, remedy=remedy)
        reference = str(take(one, f"{place}.{at}"))
        found.append(
            f"{getattr(one, '__name__', name_of(reference))}={reference}" if callable(one) else reference
        )
    return named(found, place.removesuffix("s"))
