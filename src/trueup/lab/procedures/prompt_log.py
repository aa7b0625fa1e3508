"""The lab's requests as a service would have logged them: repeated, retyped, personal, many by one user."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from annotated_types import Ge

import trueup.lab as lab
from trueup.engine.groups import Group, write_jsonl
from trueup.lab.world import generator, pick
from trueup.runs import meter as metering
from trueup.runs.recipe import Done

SUMMARY = "Log the lab's requests as a service would: with repetitions, personal data and a busy user."
OUTPUT = "groups.jsonl"
PERSONAL = ("Write to {name}@example.org.", "Call +44 20 7946 0{number}.", "My server is 203.0.113.{number}.")
"Sentences with addresses and numbers that are set aside for examples (RFC 2606, RFC 5737, Ofcom)."


@dataclass(frozen=True, kw_only=True)
class Config:
    """How many different requests are logged, and how much of what a log has besides."""

    num_prompts: Annotated[int, Ge(1)] = 2000
    "Different requests of the lab's training split."
    busy: Annotated[float, Ge(0)] = 0.15
    "Share of them that one user asked."
    repeated: Annotated[float, Ge(0)] = 0.05
    "Rows that repeat another word by word, as a share of the requests."
    retyped: Annotated[float, Ge(0)] = 0.03
    "Rows that repeat another in capitals."
    personal: Annotated[float, Ge(0)] = 0.02
    "Rows that say an address or a number of a person."
    seed: int = 0


def run(config: Config, folder: Path, *, stop_requested: Callable[[], str]) -> Done:
    """`groups.jsonl`: prompts alone, with who asked, in the order of their time."""
    groups = logged(config)
    write_jsonl(str(folder / OUTPUT), groups)
    metrics = {"prompts": float(len(groups)), "users": float(len({group.user for group in groups}))}
    meter = metering.Meter(folder)
    meter.write(0, metrics, phase="prompt_log")
    return Done(output=OUTPUT, metrics=metrics, cost=vars(meter.spend(0, tokens_trained=0, tokens_sampled=0)))


def logged(config: Config) -> list[Group]:
    """The log: the lab's requests in their order, then what repeats or tells too much."""
    asked = lab.prompts("train", config.num_prompts, config.seed)
    rng = generator("prompt log", config.seed)
    asked = [replace(g, user="busy") if rng.random() < config.busy else g for g in asked]
    changes = (
        (config.repeated, lambda text: text),
        (config.retyped, str.upper),
        (config.personal, lambda text: f"{text} {_personal(rng)}"),
    )
    more = [
        _again(pick(rng, asked), change, f"{number}-{place}", pick(rng, asked).user)
        for number, (share, change) in enumerate(changes)
        for place in range(round(share * len(asked)))
    ]
    return [*asked, *more]


def _again(group: Group, change: Callable[[str], str], number: str, user: str) -> Group:
    *before, last = group.prompt
    prompt = (*before, replace(last, content=change(last.content)))
    return replace(group, prompt=prompt, id=f"{group.id}-{number}", user=user)


def _personal(rng: random.Random) -> str:
    names: Sequence[str] = ("ann", "bob", "cleo")
    return pick(rng, PERSONAL).format(name=pick(rng, names), number=100 + int(rng.random() * 100))
