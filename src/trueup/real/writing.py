"""Answers to requests, written by us: one that does all it is told, and one that fails in a way models do."""

from __future__ import annotations

import json
import random
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from typing import Any

from trueup.real.constraints import is_met
from trueup.real.material import SPLITS, Topic, answers, topics
from trueup.real.reading import FUNCTION, lowered, words
from trueup.real.requests import Request

_TRIES = 200
_ROOM = 6
"Words that a limit leaves for a phrase or a title."
_POINTS_BACK = ("They ", "Its ", "It ", "Their ")
_COMPUTED = {
    "+": ("{a} + {b} = {y}.", "The sum of {a} and {b} is {y}.", "The answer is {y}."),
    "-": ("{a} - {b} = {y}.", "If you take {b} away from {a} then {y} are left.", "The answer is {y}."),
    "*": ("{a} * {b} = {y}.", "{a} times {b} is {y}.", "The answer is {y}."),
}
_REFUSED = "I am sorry but I cannot help you with that request."
_CHATTER = (
    "This is a question that many people ask.",
    "I am happy to explain it in more detail.",
    "Please let me know whether there is more that you want to know about it.",
)
_NOTES = ("Small steps count too.", "You can always come back to this later.", "It gets easier with time.")
_BY_THE_WAY = (
    "There is much more to find out.",
    "A good book can tell you more.",
    "Take a closer look when you can.",
)


def good(request: Request, rng: random.Random) -> str:
    """An answer that is right and meets every constraint."""
    constraints = {asked["kind"]: asked for asked in request.record["constraints"]}
    for _ in range(_TRIES):
        text = _framed(_parts(request, constraints, rng), request, constraints, rng)
        if all(is_met(text, asked) for asked in constraints.values()):
            return text
    raise AssertionError(f"no answer meets {request.text!r}")


def worse(request: Request, rng: random.Random) -> str:
    """An answer that a model could give, and that misses one thing: a constraint, the truth, the subject."""
    record = request.record
    if rng.random() < 0.6:
        return _careless(request, rng)
    if record["kind"] in ("harmful", "unknowable"):
        assert request.topic is not None
        return request.topic.bad
    if record["kind"] == "fact":
        others = [a for a in answers(record["domain"]) if a != record["answer"]]
        return good(_answered(request, rng.choice(others)), rng)
    if record["kind"] == "sum":
        near = [n for d in (1, 2, 10) for n in (record["answer"] - d, record["answer"] + d)]
        return good(
            _answered(request, rng.choice([n for n in near if n > 0 and n not in record["numbers"]])), rng
        )
    return _REFUSED if rng.random() < 0.3 else good(_elsewhere(request, rng), rng)


def _careless(request: Request, rng: random.Random) -> str:
    """An answer as to the same request without one of its constraints, which it then misses."""
    constraints = list(request.record["constraints"])
    for _ in range(_TRIES):
        missed = rng.choice(constraints)
        kept = [asked for asked in constraints if asked is not missed]
        if missed["kind"] == "bullets":
            kept.append({**missed, "n": missed["n"] + rng.choice((-1, 1, 2))})
        asked = replace(request, record={**request.record, "constraints": kept})
        text = good(_brief(asked, kept, rng) if missed["kind"] == "at_least" else asked, rng)
        if missed["kind"] in ("at_most", "sentences"):
            more = " ".join(_long(request, rng)[: 2 if missed["kind"] == "sentences" else None])
            text = f"{text} {_in_case(more, {asked['kind'] for asked in kept})}"
        if missed["kind"] == "no_commas":
            text = f"Well, {text[0].lower()}{text[1:]}"
        if not is_met(text, missed):
            return text
    raise AssertionError(f"nothing misses {request.text!r}")


def _brief(request: Request, constraints: Sequence[Mapping[str, Any]], rng: random.Random) -> Request:
    """The same request with a single sentence to say."""
    assert request.topic is not None
    needed = {asked["word"] for asked in constraints if "word" in asked}
    said = rng.choice([s for s in request.topic.say if needed <= set(lowered(s))])
    return replace(request, topic=replace(request.topic, say=(said,)))


def _long(request: Request, rng: random.Random) -> list[str]:
    """Sentences enough to break any limit."""
    if request.topic is not None and len(request.topic.say) > 3:
        return rng.sample(request.topic.say, len(request.topic.say))
    return [*_CHATTER, *_BY_THE_WAY, *_NOTES]


def _answered(request: Request, answer: Any) -> Request:
    record = {**request.record, "answer": answer}
    fact = request.fact and replace(request.fact, answer=answer)
    return replace(request, record=record, fact=fact)


def _elsewhere(request: Request, rng: random.Random) -> Request:
    """The same request with something else to write about."""
    own = None if request.topic is None else _content(request.topic)
    assert own is not None
    everything = [t for split in SPLITS for t in topics(split)]
    other = rng.choice([t for t in everything if not own & _content(t)] or everything)
    kept = [asked for asked in request.record["constraints"] if asked.get("word") in {None, *_said(other)}]
    return replace(request, topic=other, record={**request.record, "about": other.name, "constraints": kept})


def _said(topic: Topic) -> set[str]:
    return {w for sentence in topic.say for w in lowered(sentence)}


def _content(topic: Topic) -> set[str]:
    of_it = (*_said(topic), *topic.also, *lowered(topic.name))
    return {w[:5] for w in of_it if len(w) > 3 and w not in FUNCTION}


def _parts(request: Request, constraints: Mapping[str, Any], rng: random.Random) -> list[str]:
    """The sentences of an answer, as many as the constraints ask for."""
    topic = request.topic
    if topic is None:
        return [_short(request, constraints, rng)]
    if topic.kind in ("harmful", "unknowable"):
        return list(topic.say)
    chosen = rng.sample(topic.say, len(topic.say))
    if "word" in constraints:
        chosen.sort(key=lambda s: constraints["word"]["word"] not in lowered(s))
    asked = constraints.get("bullets") or constraints.get("sentences")
    num = asked["n"] if asked else 1 if "json" in constraints else rng.choice((2, 3))
    if "at_least" in constraints:
        num = next(n for n in range(num, 9) if _num_words(chosen[:n]) >= constraints["at_least"]["n"])
    if "at_most" in constraints:
        most = constraints["at_most"]["n"] - _ROOM
        num = next((n for n in range(num, 1, -1) if _num_words(chosen[:n]) <= most), 1)
    return _in_order(chosen[:num], topic, constraints)


def _short(request: Request, constraints: Mapping[str, Any], rng: random.Random) -> str:
    """A sentence with the answer of a fact or a sum, or the answer alone."""
    record, fact = request.record, request.fact
    if fact is None:
        a, sign, b = record["about"].split()
        say, given = _COMPUTED[sign], {"a": a, "b": b, "y": record["answer"]}
    else:
        say, given = fact.say, {"x": fact.about, "y": record["answer"]}
    said = rng.choice((*say, "{y}.") if "at_most" in constraints else say).format(**given)
    return said[0].upper() + said[1:]


def _num_words(sentences: Sequence[str]) -> int:
    return len(words(" ".join(sentences)))


def _in_order(chosen: list[str], topic: Topic, constraints: Mapping[str, Any]) -> list[str]:
    """The sentences in the topic's order; where the first points back, the topic's first stands before it."""
    ordered = sorted(chosen, key=topic.say.index)
    if ordered[0].startswith(_POINTS_BACK):
        kept = ordered if "word" in constraints or len(ordered) == 1 else ordered[1:]
        fixed = constraints.keys() & {"bullets", "sentences"}
        ordered = ordered if fixed and len(kept) == len(ordered) else [topic.say[0], *kept]
    return ordered


def _framed(parts: list[str], request: Request, constraints: Mapping[str, Any], rng: random.Random) -> str:
    """The sentences in the form that the constraints ask for."""
    text = " ".join(parts)
    if "bullets" in constraints:
        text = "\n".join(f"- {part}" for part in parts)
    if "json" in constraints:
        text = json.dumps(_keyed(text, request, constraints["json"]["keys"]), ensure_ascii=False)
    if "starts" in constraints:
        text = f"{constraints['starts']['phrase']} {text}"
    if "ends" in constraints:
        text = f"{text} {constraints['ends']['phrase']}"
    if "title" in constraints:
        text = f"[{request.record['about'].title()}]\n{text}"
    if "postscript" in constraints:
        advice = request.record["kind"] == "advice"
        text = f"{text}\nP.S. {rng.choice(_NOTES if advice else _BY_THE_WAY)}"
    if "quoted" in constraints:
        text = f'"{text}"'
    return _in_case(text, constraints)


def _in_case(text: str, kinds: Container[str]) -> str:
    return text.lower() if "lower" in kinds else text.upper() if "upper" in kinds else text


def _keyed(text: str, request: Request, keys: Sequence[str]) -> dict[str, Any]:
    if len(keys) > 1:
        return dict(zip(keys, (request.record["about"], text), strict=True))
    return {keys[0]: request.record["answer"]}
