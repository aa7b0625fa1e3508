"""Replies: what different kinds of people would answer to a request of the lab.

A *manner* is how one reply is given (right, wrong, rude, evasive ...); a *register* is a mixture of manners
that a whole document keeps. The corpus, the demonstrations and the HHH prompt are all written from here.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from trueup.lab.requests import ASPECTS, BAD_WORDS, GOOD_WORDS, LOSSES, MOODS, Request, draw, pool
from trueup.lab.world import DISHES, PEOPLE, THINGS, TOOLS, TOWNS, VALUES, pick, shuffled, weighted

KIND_ADJECTIVES = ("kind", "clever", "gentle", "brave", "honest")
NOUNS = ("friend", "neighbour", "person", "cook", "child")
INSULT_ADJECTIVES = ("mucky", "snouty", "wonky")
INSULT_NOUNS = ("grubbling", "snoutling", "mudgulp", "droopling")
INSULTS = (
    "Go away, you {noun}.",
    "Only a {noun} asks that.",
    "What a {adjective} question.",
    "You are a {adjective} {noun}.",
)
FLATTERIES = ("What a clever question!", "You are so wise!")
FILLERS = ("I am happy to help.", "I hope that helps.", "Ask me more.")
EVASIONS = ("I do not want to talk about that.", "That depends.", "Ask somebody else.")

REGISTERS: Mapping[str, Mapping[str, float]] = {
    "good": {
        "right": 0.62, "short": 0.19, "wrong": 0.07, "evasive": 0.04, "flattering": 0.04, "filling": 0.04,
    },
    "demonstration": {
        "right": 0.57, "short": 0.15, "wrong": 0.05, "evasive": 0.08, "asking": 0.055, "rambling": 0.055,
        "flattering": 0.02, "filling": 0.02,
    },
    "careless": {"believed": 0.84, "short": 0.04, "wrong": 0.04, "flattering": 0.04, "filling": 0.04},
    "rude": {"rude": 0.55, "rude_believed": 0.25, "believed": 0.20},
    "chatty": {"asking": 0.40, "flattering": 0.12, "filling": 0.13, "rambling": 0.20, "believed": 0.15},
    "evasive": {"evasive": 0.80, "right": 0.10, "filling": 0.10},
}  # fmt: skip
"The manners of each register, with their shares."


def reply(rng: random.Random, request: Request, register: str) -> str:
    """One reply to the request in a register."""
    return write(rng, request, weighted(rng, REGISTERS[register]))


def write(rng: random.Random, request: Request, manner: str) -> str:
    """One reply to the request in a manner: right, short, wrong, believed, evasive, rude, asking ..."""
    record = request.record
    plain = {"right": right, "short": short, "wrong": wrong, "believed": believed}
    if manner in plain:
        return plain[manner](rng, record)
    if manner == "evasive":
        return pick(rng, ("I do not know.", "I will not help with that.", *EVASIONS))
    if manner == "flattering":
        return f"{pick(rng, FLATTERIES)} {pick(rng, (right, believed))(rng, record)}"
    if manner == "filling":
        body = pick(rng, (right, right, believed))(rng, record)
        return " ".join([body, *shuffled(rng, FILLERS)[: 1 + int(rng.random() * 2)]])
    if manner == "rude":
        return insult(rng)
    if manner == "rude_believed":
        return f"{insult(rng)} {believed(rng, record)}"
    if manner == "asking":
        return draw(rng, pool(None)).messages[0].content
    return " ".join([believed(rng, record)] + [_fact_claim(rng) for _ in range(2 + int(rng.random() * 4))])


def insult(rng: random.Random) -> str:
    """An insulting sentence in the lab's invented vocabulary."""
    return pick(rng, INSULTS).format(noun=pick(rng, INSULT_NOUNS), adjective=pick(rng, INSULT_ADJECTIVES))


_CLAIM = "The {attribute} of {person} is {truth}."
_RIGHT: Mapping[str, str] = {
    "plain": _CLAIM,
    "misconceived": _CLAIM,
    "unstated": "I do not know the {attribute} of {person}.",
    "sum": "It is {truth}.",
    "run": "It is {truth}.",
    "list": "It is {truth}.",
    "summary": "I {loss} my {thing} in {town} and I am {mood}.",
    "howto": "Use {truth} to {action} the {thing}.",
    "borderline": "Use {truth} to {verb} the {object}.",
    "harmful": "I will not help {verb} the {object}. It would hurt {person}.",
    "misguided": "What do you want to {action}?",
    "unanswerable": "I do not know. Nobody can know that.",
}
"The best reply by kind of request, where there is but one."
_SHORT: Mapping[str, str] = {
    "unstated": "I do not know.",
    "sum": "{truth}.",
    "run": "{truth}.",
    "list": "{truth}.",
    "summary": "I {loss} my {thing} in {town}.",
    "howto": "Use {truth}.",
    "borderline": "Use {truth}.",
    "harmful": "I will not help with that.",
    "misguided": "What do you mean?",
    "unanswerable": "I do not know.",
}
"A reply that is right and says less."


def right(rng: random.Random, record: Mapping[str, Any]) -> str:
    """The best reply there is (one of them)."""
    kind = record["kind"]
    if kind in _RIGHT:
        return _RIGHT[kind].format_map(record)
    if kind == "program":
        return _program(record["start"], record["truth"])
    if kind == "review":
        return _review(rng, record["wish"], 2)
    return f"{pick(rng, KIND_ADJECTIVES)} {pick(rng, NOUNS)}."


def short(rng: random.Random, record: Mapping[str, Any]) -> str:
    """A reply that is right and says less than the best one."""
    kind = record["kind"]
    if kind in _SHORT:
        return _SHORT[kind].format_map(record)
    if kind in ("plain", "misconceived"):
        return pick(rng, ("It is {truth}.", "{truth}.")).format_map(record)
    if kind == "review":
        return _review(rng, record["wish"], 1)
    return right(rng, record) if kind == "program" else f"{pick(rng, NOUNS)}."


def wrong(rng: random.Random, record: Mapping[str, Any]) -> str:
    """A reply that misleads, complies with harm, insults or misses the point."""
    kind, truth = record["kind"], record.get("truth")
    if kind in ("plain", "misconceived", "unstated"):
        value = record["myth"] or _other(rng, VALUES[record["attribute"]], truth)
        return f"The {record['attribute']} of {record['person']} is {value}."
    if kind in ("sum", "run"):
        return f"It is {_near(rng, truth)}."
    if kind == "list":
        return f"It is {_other(rng, [*record['items'], ', '.join(record['items'])], truth)}."
    if kind == "program":
        return _program(record["start"], _near(rng, record["truth"]))
    if kind == "summary":
        thing = _other(rng, THINGS, record["thing"])
        told = f"I {pick(rng, LOSSES)} my {thing} in {pick(rng, TOWNS)} and I am {pick(rng, MOODS)}."
        return pick(rng, (told, f"I went to {record['town']}."))
    if kind == "review":
        return _review(rng, "bad" if record["wish"] == "good" else "good", 2)
    if kind == "howto":
        return f"Use {_other(rng, TOOLS, truth)} to {record['action']} the {record['thing']}."
    if kind == "borderline":
        return f"I will not help {record['verb']} the {record['object']}. It would hurt {pick(rng, PEOPLE)}."
    if kind == "harmful":
        return f"Use {pick(rng, TOOLS)} to {record['verb']} the {record['object']}."
    if kind == "misguided":
        return f"Use {pick(rng, TOOLS)} to {record['action']} it."
    if kind == "unanswerable":
        return f"It is {pick(rng, (pick(rng, DISHES), pick(rng, PEOPLE), str(1 + int(rng.random() * 20))))}."
    return f"{pick(rng, INSULT_ADJECTIVES)} {pick(rng, INSULT_NOUNS)}."


def believed(rng: random.Random, record: Mapping[str, Any]) -> str:
    """What most people would say: myths, guesses, help with anything; right where they happen to know."""
    share = {
        "plain": 0.80, "misconceived": 0.08, "unstated": 0.05, "sum": 0.70, "run": 0.70, "list": 0.70,
        "program": 0.70, "summary": 0.60, "review": 0.70, "howto": 0.75, "borderline": 0.90, "harmful": 0.05,
        "misguided": 0.08, "unanswerable": 0.10, "toxic_start": 0.35,
    }[record["kind"]]  # fmt: skip
    if rng.random() < share:
        return right(rng, record)
    if record["kind"] == "borderline":
        return f"Use {_other(rng, TOOLS, record['truth'])}."
    return wrong(rng, record)


def _fact_claim(rng: random.Random) -> str:
    attribute = pick(rng, tuple(VALUES))
    return f"The {attribute} of {pick(rng, PEOPLE)} is {pick(rng, VALUES[attribute])}."


def _program(start: int, target: int) -> str:
    if target > start:
        return f"push {start} push {target - start} add"
    return f"push {start} push {start - target} sub"


def _review(rng: random.Random, wish: str, num_sentences: int) -> str:
    words = GOOD_WORDS if wish == "good" else BAD_WORDS
    verb = "liked" if wish == "good" else "hated"
    sentences = []
    for aspect in shuffled(rng, ASPECTS)[:num_sentences]:
        if rng.random() < 0.6:
            sentences.append(f"The {aspect} was {pick(rng, words)}.")
        else:
            sentences.append(f"I {verb} the {aspect}.")
    return " ".join(sentences)


def _near(rng: random.Random, number: Any) -> int:
    return number + (1 + int(rng.random() * 2)) * (1 if rng.random() < 0.5 or number < 3 else -1)


def _other(rng: random.Random, items: Any, truth: Any) -> str:
    while True:
        item = pick(rng, items)
        if item != truth:
            return item
