"""Requests: a question or a task, and up to two constraints on how it is answered."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trueup.real.constraints import CONSTRAINTS, ENDS, KEYS, LONG, SHORT, SPOKEN, STARTS, fit_together, told
from trueup.real.material import Fact, Split, Topic, dialogues, facts, topics
from trueup.real.reading import FUNCTION, lowered

_SHARES = {"fact": 0.3, "sum": 0.2, "topic": 0.38, "dialogue": 0.12}
_NAMES, _THINGS = (
    ("Ana", "Ben", "Chloe", "David", "Emma", "Farid"),
    ("apples", "books", "coins", "pencils", "shells"),
)
_SUMS = {
    "+": (
        "What is {a} + {b}?",
        "Add {a} and {b}.",
        "{name} has {a} {things} and gets {b} more. How many {things} are there now?",
    ),
    "-": (
        "What is {a} - {b}?",
        "Take {b} away from {a}.",
        "{name} has {a} {things} and gives away {b}. How many {things} are left?",
    ),
    "*": (
        "What is {a} * {b}?",
        "Multiply {a} by {b}.",
        "{name} has {a} bags with {b} {things} each. How many {things} is that?",
    ),
}
_PHRASES = {"ends": ENDS, "starts": STARTS}
_NUMBERS = {"sentences": (2, 3), "at_most": (30, 40), "at_least": (15, 20, 25), "bullets": (2, 3, 4)}
_NUMBERS_OF: Mapping[str, Mapping[str, tuple[int, ...]]] = {
    "fact": {"sentences": (1,), "at_most": (8, 10, 12)},
    "harmful": {"sentences": (2,)},
    "unknowable": {"sentences": (2,)},
}
"The numbers that constraints ask for, and where the kind of request has others."
_NOT_SHORT = {"symbol": ("lower", "upper", "sentences"), "next": ("lower", "upper")}
"Constraints that would change what a fact's answer means, by domain."


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked, and what a judge needs to know of it."""

    text: str
    record: Mapping[str, Any]
    "`kind`, `about`, `constraints`; of a fact `domain` and `answer`, of a sum `numbers` and `answer`."
    fact: Fact | None = None
    topic: Topic | None = None


def draw(split: Split, rng: random.Random) -> Request:
    """A request of a split: a fact, a sum, something to write about, or a dialogue of the three H's."""
    (what,) = rng.choices(list(_SHARES), weights=list(_SHARES.values()))
    if what == "fact":
        return _of_fact(rng.choice(facts(split)), rng)
    if what == "sum":
        return _of_sum(split, rng)
    topic = rng.choice(topics(split) if what == "topic" else dialogues(split))
    kinds = LONG if what == "topic" else SPOKEN
    constraints = _constrained(rng, kinds, topic.kind, rng.choice((1, 2, 2)) if what == "topic" else 1, topic)
    record = {"kind": topic.kind, "about": topic.name, "constraints": constraints}
    return Request(text=_worded(rng, topic.ask, {"x": topic.name}, constraints), record=record, topic=topic)


def least_words(record: Mapping[str, Any]) -> int:
    """How many words an answer must have beside those that it is told."""
    return 1 if record["kind"] in ("fact", "sum") else 5


def told_words(record: Mapping[str, Any]) -> list[str]:
    """The phrases and keys that the constraints have written word by word."""
    return [phrase for asked in record["constraints"] for phrase in told(asked)]


def _of_fact(fact: Fact, rng: random.Random) -> Request:
    kinds = tuple(k for k in SHORT if k not in _NOT_SHORT.get(fact.domain, ()))
    constraints = _constrained(rng, kinds, "fact", rng.choice((1, 1, 2)))
    record = {
        "kind": "fact",
        "about": fact.about,
        "domain": fact.domain,
        "answer": fact.answer,
        "constraints": constraints,
    }
    return Request(text=_worded(rng, fact.ask, {"x": fact.about}, constraints), record=record, fact=fact)


def _of_sum(split: Split, rng: random.Random) -> Request:
    """Two numbers whose sum mod 5 says whose they are, so that no split has a question of another."""
    own = {"train": (0, 1, 2), "dev": (3,), "test": (4,)}[split]
    while True:
        sign = rng.choice("++-*")
        a, b = (
            (rng.randint(2, 9), rng.randint(3, 9))
            if sign == "*"
            else (rng.randint(4, 40), rng.randint(2, 30))
        )
        answer = {"+": a + b, "-": a - b, "*": a * b}[sign]
        if (a + b) % 5 in own and answer > 1 and answer not in (a, b):
            break
    constraints = _constrained(rng, SHORT, "fact", 1)
    given = {"a": a, "b": b, "name": rng.choice(_NAMES), "things": rng.choice(_THINGS)}
    record = {
        "kind": "sum",
        "about": f"{a} {sign} {b}",
        "numbers": [a, b],
        "answer": answer,
        "constraints": constraints,
    }
    return Request(text=_worded(rng, _SUMS[sign], given, constraints), record=record)


def _constrained(
    rng: random.Random, kinds: Sequence[str], of: str, num: int, topic: Topic | None = None
) -> list[dict[str, Any]]:
    while True:
        chosen = tuple(sorted(rng.sample(list(kinds), num)))
        if fit_together(chosen):
            return [_with_numbers(rng, kind, of, topic) for kind in chosen]


def _with_numbers(rng: random.Random, kind: str, of: str, topic: Topic | None) -> dict[str, Any]:
    """The constraint with what it leaves open: a number, a phrase, a word, keys."""
    if kind in _PHRASES:
        return {"kind": kind, "phrase": rng.choice(_PHRASES[kind])}
    if kind == "json":
        return {"kind": kind, "keys": list(KEYS[of])}
    if kind == "word":
        assert topic is not None
        said = {w for sentence in topic.say for w in lowered(sentence) if len(w) > 3}
        return {"kind": kind, "word": rng.choice(sorted(w for w in said - FUNCTION if w not in topic.name))}
    numbers = {**_NUMBERS, **_NUMBERS_OF.get(of, {})}
    return {"kind": kind, "n": rng.choice(numbers[kind])} if kind in numbers else {"kind": kind}


def _worded(
    rng: random.Random, ask: Sequence[str], given: Mapping[str, Any], constraints: Sequence[Mapping[str, Any]]
) -> str:
    parts = [rng.choice(ask).format(**given)]
    for asked in constraints:
        keys = asked.get("keys", ())
        several = len(keys) > 1 or asked.get("n", 1) > 1
        named = " and ".join(f'"{key}"' for key in keys)
        wording = rng.choice(CONSTRAINTS[asked["kind"]].asks)
        parts.append(
            wording.format(
                **{"phrase": "", "word": "", "n": 0, **asked, "named": named, "s": "s" if several else ""}
            )
        )
    return " ".join(parts)
