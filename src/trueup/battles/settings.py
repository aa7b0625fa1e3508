"""What a battle is asked for: who meets, on what, judged by whom, and how much of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from trueup.errors import TrueupError
from trueup.settings.names import PLAIN, as_name, check_name
from trueup.settings.secret import fault_of_references
from trueup.worlds import open_world
from trueup.worlds.doors import lead

if TYPE_CHECKING:
    from trueup.ratings.pairing import Pairing

PEOPLE = "people"
SERVER = "openai:"
_NAMED = re.compile(r"(?P<name>[A-Za-z0-9][\w.+-]*)=(?P<place>.+)", re.DOTALL)
_LANGUAGE = "lm:"


@dataclass(frozen=True, kw_only=True)
class Config:
    """A battle's settings."""

    models: Mapping[str, str]
    "Who meets, by name: folders, ids, GGUF files, run folders, servers."
    by: Mapping[str, str]
    "Who judges, by name."
    prompts: str = ""
    "A file of prompts, in any format that is read."
    world: str = ""
    "In place of a file: a world, whose test prompts are taken."
    battles: int = 300
    "Most battles: two answers to a prompt, that each judge chooses between."
    until: float = 0.0
    "End once the widest interval is no wider, in points; 0 is never."
    num_prompts: int = 100
    "Prompts taken, in a random order."
    samples: int = 1
    "Answers of each model to each prompt."
    temperature: float = 1.0
    max_new_tokens: int = 128
    template: str | None = None
    pairing: Pairing = "order"
    batch: int = 20
    "Battles that are asked at a time, before ratings are fitted again."
    prior: float = 0.0
    "As in `rank`: the strength of a normal prior on the ratings."
    seed: int = 0

    def __post_init__(self) -> None:
        if len(self.models) < 2:
            raise TrueupError(
                "E433", "a battle takes two models or more", where="battle", remedy="name another model"
            )
        if bool(self.prompts) == bool(self.world):
            raise TrueupError(
                "E434",
                "no prompts" if not self.prompts else "prompts of a file, and of a world",
                where="battle",
                remedy="give --prompts FILE, or --world FILE.yaml",
            )
        if not self.by:
            raise TrueupError(
                "E435",
                "nobody judges",
                where="battle",
                remedy="give --by lm:MODEL, a reward model's folder, FILE.py:FUNCTION, or people",
            )

        if fault := fault_of_references((*self.models.values(), *self.by.values())):
            # It may be the key itself, and settings are written: neither this error nor any file shows it.
            remedy = "export the key, and write its variable: `key=NAME`; a judge's is TRUEUP_JUDGE_KEY"
            raise TrueupError("E797", fault, where="battle", remedy=remedy)

    def fixed(self) -> dict[str, object]:
        """What may not change while a folder is gone on with."""
        names = (
            "num_prompts",
            "samples",
            "temperature",
            "max_new_tokens",
            "template",
            "pairing",
            "batch",
            "seed",
        )
        return {
            "models": dict(self.models),
            "by": dict(self.by),
            "prompts": self.prompts or self.world,
            **{name: getattr(self, name) for name in names},
        }


def led(config: Config) -> Config:
    """The settings with each `world:NAME` leading into the battle's own world, where it has one."""
    if not config.world:
        return config
    world = open_world(config.world)
    return replace(config, models=lead(config.models, world), by=lead(config.by, world))


def named(references: Sequence[str], what: str) -> dict[str, str]:
    """References by name: NAME=REFERENCE, else a name made of the reference.

    Raises E436 where two have one name, E770 for a name that is no plain one.
    """
    found: dict[str, str] = {}
    for text in references:
        given = None if Path(text).exists() else _NAMED.fullmatch(text)
        name, place = (given["name"], given["place"]) if given else (name_of(text), text)
        check_name(name, f"a {what}", text)
        if name in found:
            raise TrueupError(
                "E436",
                f"two are called {name!r}: {found[name]} and {place}",
                where=what,
                remedy=f"name one: {name}-2={place}",
            )
        found[name] = place
    return found


def name_of(reference: str) -> str:
    """What a model or judge is called whom nobody named: its folder's name, or its name at a server.

    Of a run's `model/` it is that of the folder above; a judge that is a language model keeps its `lm:`
    before it as `lm-`.
    """
    if reference.startswith(_LANGUAGE):
        return as_name(f"lm-{name_of(reference.removeprefix(_LANGUAGE).partition('#')[0])}")
    if reference.startswith(SERVER):
        asked = parse_qs(reference.partition("#")[0].partition("?")[2])
        return as_name(asked.get("model", [SERVER.rstrip(":")])[0].rpartition("/")[2])
    path = Path(reference)
    last = path.parent.name if path.name == "model" and path.parent.name else path.name
    last = path.resolve().name if last in ("", ".", "..") else last
    last = last.rpartition(":")[2] if not PLAIN.fullmatch(last) else last
    return as_name(last.removesuffix(".gguf") or last)
