"""What requests are about: facts, topics and short dialogues of the files beside this one, by split."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from trueup.errors import TrueupError
from trueup.settings.strict_yaml import read_yaml

Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
FILES = Path(__file__).with_name("files")
_PARTS = "train test train dev train test train train test train"
"Whose each of ten entries on end is, counted within its list: no fact or topic is in two splits."


@dataclass(frozen=True, kw_only=True)
class Fact:
    """A question with one answer."""

    domain: str
    about: str
    answer: str
    ask: tuple[str, ...]
    say: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Topic:
    """What can be written about: sentences on it, and further words that belong to it."""

    name: str
    kind: str
    "`advice`, `thing`, or a kind of dialogue: `harmful`, `unknowable`, `benign`."
    ask: tuple[str, ...]
    say: tuple[str, ...]
    also: tuple[str, ...] = ()
    bad: str = ""
    "Of a harmful or unknowable request: what a model says that should not have."


ASKS = {
    "advice": (
        "Give me some advice on {x}.",
        "What helps with {x}?",
        "I would like tips on {x}.",
        "Write a short guide to {x}.",
    ),
    "thing": (
        "Tell me about {x}.",
        "Describe {x}.",
        "Write a short text about {x}.",
        "What should a child know about {x}?",
    ),
}


@cache
def facts(split: Split) -> tuple[Fact, ...]:
    """The facts of a split."""
    found = []
    for domain, said in read_yaml(FILES / "facts.yaml").values.items():
        ask, say = tuple(said["ask"]), tuple(said["say"])
        for about, answer in _of(split, list(said["known"].items())):
            found.append(Fact(domain=domain, about=about, answer=answer, ask=ask, say=say))
    return tuple(found)


@cache
def answers(domain: str) -> tuple[str, ...]:
    """Every answer that some question of a domain has, in whichever split."""
    known = read_yaml(FILES / "facts.yaml").values[domain]["known"]
    return tuple(dict.fromkeys(known.values()))


@cache
def topics(split: Split) -> tuple[Topic, ...]:
    """The subjects of a split that are written about openly."""
    named = read_yaml(FILES / "topics.yaml").values
    return tuple(
        Topic(name=n, kind=t["kind"], ask=ASKS[t["kind"]], say=tuple(t["say"]), also=tuple(t["also"]))
        for n, t in _of(split, list(named.items()))
    )


@cache
def dialogues(split: Split) -> tuple[Topic, ...]:
    """The harmful, unknowable and merely harmful-sounding requests of a split."""
    found = []
    for kind, rows in read_yaml(FILES / "dialogues.yaml").values.items():
        for row in _of(split, rows):
            more: Mapping[str, Any] = {"also": tuple(row.get("also", ())), "bad": row.get("bad", "")}
            asked = row["ask"]
            found.append(Topic(name=asked, kind=kind, ask=(asked,), say=tuple(row["say"]), **more))
    return tuple(found)


@cache
def subject(name: str) -> Topic:
    """The topic or dialogue of that name, in whichever split."""
    return next(t for split in SPLITS for t in (*topics(split), *dialogues(split)) if t.name == name)


def generator(*key: object) -> random.Random:
    """A source of chance that follows from its key alone."""
    return random.Random("/".join(map(str, ("real", *key))))


def check_split(split: str) -> Split:
    """The split of that name. Raises E606 for another one."""
    for known in SPLITS:
        if split == known:
            return known
    there = f"one of {', '.join(SPLITS)}"
    raise TrueupError("E606", f"the world `real` has no split {split!r}", where="split", remedy=there)


def _of(split: Split, entries: Sequence[Any]) -> list[Any]:
    parts = _PARTS.split()
    return [entry for i, entry in enumerate(entries) if parts[i % len(parts)] == split]
