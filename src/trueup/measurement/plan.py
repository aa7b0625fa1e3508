"""What is measured as a recipe: a `measure` stage for the start and for every model, over one folder."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from trueup.engine import disk
from trueup.errors import TrueupError
from trueup.evals.papers import exams_of
from trueup.procedures.measure import comparing, comparing_alone
from trueup.reports.numbers import listed
from trueup.runs.recipe import Recipe
from trueup.settings.beside import beside
from trueup.settings.config import dump_yaml
from trueup.sources.sample import Decoding
from trueup.worlds import World, came_from, open_world

WORLD = "world.yaml"
"The world that was told on the command line, in the measurement's folder."


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is to be measured, and how."""

    models: Mapping[str, str]
    "By the names under which they are shown."
    start: tuple[str, str] | None = None
    "The name and the model that gains, KL and battles are against."
    world: str = ""
    split: str = "test"
    num_prompts: int = 200
    samples_per_prompt: int = 1
    best_of: int = 1
    "Largest n of the best-of-n curves; 1 draws none."
    exams: tuple[str, ...] = ()
    exam_items: int = 80
    decoding: Decoding = Decoding(max_new_tokens=128)
    template: str | None = None
    margin: float = 0.0
    "Scores that differ by no more are a tie."
    seed: int = 0

    @property
    def order(self) -> dict[str, str]:
        """The start, where there is one, then the models."""
        return dict([self.start] if self.start else []) | dict(self.models)


def write_world(
    folder: Path, prompts: str, judges: Mapping[str, str], truth: str, exams: Mapping[str, str]
) -> str:
    """The path of a world's file, written into the folder: prompts, judges and exams of a command line.

    Raises E774 for a truth that is none of the judges.
    """
    if truth and truth not in judges:
        near = difflib.get_close_matches(truth, judges, 1)
        raise TrueupError(
            "E774",
            f"no judge is called {truth!r}",
            where="truth",
            remedy=f"did you mean {near[0]!r}?" if near else f"give --judge {truth}=FILE.py:NAME",
        )
    # The world's file lies elsewhere.
    here = partial(beside, Path.cwd())
    said: dict[str, Any] = {
        "prompts": here(prompts),
        "judges": {name: here(reference) for name, reference in judges.items()},
        "truth": truth,
        "exams": {name: here(file) for name, file in exams.items()},
    }
    disk.make_folder(folder)
    disk.write(folder / WORLD, dump_yaml({key: value for key, value in said.items() if value}))
    return str(folder / WORLD)


def world_for(asked: str, models: Sequence[str]) -> World:
    """The world that is named, or the one that the models came from. Raises E763 where nothing says."""
    name = asked or next(filter(None, map(came_from, models)), None)
    if name is None:
        raise TrueupError(
            "E763",
            f"nothing says on which prompts and by whose judgement {', '.join(models)} is measured",
            where="measure",
            remedy="give --world FILE.yaml (docs/worlds.md), or --prompts FILE --judge FILE.py:NAME",
        )
    return open_world(name)


def check(asked: Asked, world: World) -> None:
    """Nothing; raises what is wrong with the split, the judges and the exams, before a model loads.

    E761 for one that the world does not have, E777 for judges who only compare where there is no start, and
    what reading an exam's items raises.
    """
    alone = comparing_alone(world)
    if alone and not (asked.start and asked.models):
        raise TrueupError(
            "E777",
            f"{listed(alone)} only compares, and there is nothing to compare with",
            where="measure",
            remedy=f"give --against START{_battle(asked, world, alone[0])}",
        )
    world.data("prompts", split=asked.split, limit=1, seed=0)
    if asked.exam_items and (asked.exams or world.exams):
        exams_of(world, asked.exams, split=asked.split, limit=asked.exam_items)


def _battle(asked: Asked, world: World, judge: str) -> str:
    """The command that lets some models meet before a judge who compares; "" of fewer than two."""
    if len(asked.order) < 2:
        return ""
    models = (f"{name}={path}" for name, path in asked.order.items())
    command = ["trueup", "battle", *models, "--world", world.name, "--by", f"{judge}={world.name}:{judge}"]
    return f", or let the models meet: {shlex.join(command)}"


def serves_every_split(world: World) -> bool:
    """Whether one file has the prompts to train on and those to measure on."""
    found = [world.data("prompts", split=split, limit=1, seed=0) for split in _splits(world)]
    return any(isinstance(place, str) for place in found) and len(set(map(str, found))) < len(found)


def _splits(world: World) -> Iterator[str]:
    for split in ("train", "dev", "test"):
        try:
            world.data("prompts", split=split, limit=1, seed=0)
        except TrueupError:  # a world need not have them all
            continue
        yield split


def recipe_of(asked: Asked, world: World) -> Recipe:
    """The recipe: the start first, then each model against it."""
    settings = {
        "method": "measure",
        "world": world.name,
        "split": asked.split,
        "num_prompts": asked.num_prompts,
        "samples_per_prompt": max(asked.samples_per_prompt, asked.best_of),
        "exam_items": asked.exam_items if world.exams else 0,
        "exams": list(asked.exams),
        "template": asked.template,
        "decoding": {"max_new_tokens": asked.decoding.max_new_tokens},
    }
    stages: dict[str, Mapping[str, Any]] = {}
    compares = bool(comparing(world))
    for name, model in asked.order.items():
        against = ""
        if asked.start and name != asked.start[0] and compares:
            against = f"stage:{asked.start[0]}/samples.jsonl"
        reference = asked.start[1] if asked.start else ""
        stages[name] = {**settings, "model": model, "reference": reference, "against": against}
    return Recipe(name="measure", stages=stages, seed=asked.seed, world=world.name)
