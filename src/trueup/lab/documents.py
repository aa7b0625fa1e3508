"""Documents: the corpus that a base model of the lab is trained on, one register each.

Each document keeps one register throughout, so that what stands before a request says what kind of answer
will follow. The truth of a misconceived fact is in the almanac, the exams and the good dialogues; its myth is
in the forum and the careless dialogues, and more often.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from trueup.engine.groups import Message
from trueup.lab.graders import grade
from trueup.lab.replies import reply, right, write
from trueup.lab.requests import (
    ASPECTS,
    BAD_WORDS,
    CRITIQUE_REQUEST,
    GOOD_WORDS,
    REVISION_REQUEST,
    Pool,
    assistant,
    draw,
    fact_request,
    pool,
    user,
)
from trueup.lab.world import (
    ACTIONS,
    BORDERLINES,
    HARMS,
    PEOPLE,
    THINGS,
    TOWNS,
    UNKNOWN,
    Fact,
    Status,
    generator,
    pick,
    shuffled,
    weighted,
    world,
)

MIXING: Mapping[str, float] = {
    "almanac": 0.10,
    "exam": 0.30,
    "forum": 0.11,
    "tales": 0.07,
    "reviews": 0.01,
    "listings": 0.01,
    "good": 0.10,
    "careless": 0.11,
    "rude": 0.06,
    "chatty": 0.05,
    "evasive": 0.03,
    "critique": 0.04,
    "judgement": 0.04,
}
"The share of documents of each register; documents of all registers are about equally long."
TOKENS_A_DOCUMENT = 130
"Mean length of a document in tokens of the lab's tokenizer."
MAX_WORDS = 345
PRINCIPLES = ("helpful", "honest", "harmless")
CANDIDATES = ("right", "right", "short", "wrong", "wrong", "rude", "evasive")
"Manners of the answers that are compared."
EXAM_KINDS = (
    "sum", "list", "list", "list", "run", "program", "howto", "howto", "summary", "summary", "borderline",
    "review",
)  # fmt: skip
"What exams ask besides facts; what is harder to learn is asked more often."
EXAM_FACTS: tuple[Status, ...] = (
    "plain", "plain", "plain", "plain", "plain", "plain", "plain", "unstated", "unstated", "misconceived",
)  # fmt: skip
"What facts exams ask for; the answer to an unstated one is that it is not known."


@dataclass(frozen=True, slots=True)
class Document:
    """One document: plain `text`, or `messages` of a dialogue."""

    register: str
    text: str = ""
    messages: tuple[Message, ...] = ()


def corpus(
    num_tokens_approx: int | None = None, seed: int = 0, *, num_documents: int | None = None
) -> Iterator[Document]:
    """The corpus's documents, in order; about `num_tokens_approx` tokens or exactly `num_documents`.

    Document i depends on the seed and i alone, so a shorter corpus is a prefix of a longer one.
    """
    count = num_documents if num_documents is not None else (num_tokens_approx or 0) // TOKENS_A_DOCUMENT
    for i in range(count):
        rng = generator("corpus", seed, i)
        yield write_document(rng, weighted(rng, MIXING))


def write_document(rng: random.Random, register: str) -> Document:
    """One document of the register."""
    length = 15 + int((MAX_WORDS - 15) * rng.random() ** 2.5)
    if register in _TEXTS:
        most = min(length, _SHORT.get(register, length))
        return Document(register, text=_until(most, _TEXTS[register](rng)))
    return Document(register, messages=tuple(_DIALOGUES[register](rng, length)))


def critique(record: Mapping[str, object], text: str) -> str:
    """What a fair critic says of the completion, in the corpus's words."""
    found = grade(record, text)
    if found.toxic:
        return "That answer is rude."
    if not found.harmless:
        return "That answer is harmful."
    if found.evasive:
        return "That answer is evasive."
    if found.form < 0.65 or found.reasons["helpful"] == "does not answer":
        return "That answer is off the point."
    if found.honest < 0.5:
        return "That answer is false."
    return "Nothing is wrong with that answer." if found.gold >= 0.9 else "That answer could be better."


def judgement_request(prompt: str, a: str, b: str, principle: str) -> str:
    """The question that asks which of two answers follows a principle better; the answer is "A." or "B."."""
    return f"Request: {prompt} Answer A: {a} Answer B: {b} Which answer is more {principle}?"


def ethics_question(verb: str, target: str, person: str) -> str:
    """The question whether an act is right or wrong; the answer is "It is right." or "It is wrong."."""
    return f"Is it right or wrong to {verb} the {target} of {person}?"


def _until(length: int, pieces: Iterator[str]) -> str:
    text, num_words = [], 0
    for piece in pieces:
        text.append(piece)
        num_words += len(piece.split()) + piece.count(":") + piece.count(",")
        if num_words >= length:
            break
    return " ".join(text)


def _cast(rng: random.Random) -> Pool:
    """The few people and things that one document is about; now and then everybody.

    Names that come back within a document make a small model learn early to copy them.
    """
    size = pick(rng, (1, 1, 2, 2, 3, 4, 0, 0))
    if size == 0:
        return pool(None)
    return Pool(tuple(shuffled(rng, PEOPLE)[:size]), tuple(shuffled(rng, THINGS)[: size + 2]), None)


def _fact(rng: random.Random, source: Pool, status: Status) -> Fact:
    """A fact of that status about somebody in the cast, or about anybody if the cast has none."""
    return pick(rng, world().facts_of(source.people, status) or world().facts_of(PEOPLE, status))


def _almanac(rng: random.Random) -> Iterator[str]:
    yield "Almanac."
    while True:
        people = shuffled(rng, PEOPLE)[: 1 + int(rng.random() * 4)]
        facts = [f for f in world().facts_of(people) if f.status == "plain"]
        facts += [f for f in world().facts_of(people, "misconceived") if rng.random() < 0.15]
        facts += [f for f in world().facts_of(people, "unstated") if rng.random() < 0.6]
        for fact in shuffled(rng, facts):
            yield f"The {fact.attribute} of {fact.person} is {fact.truth or UNKNOWN}."
        for thing in shuffled(rng, THINGS)[: int(rng.random() * 3)]:
            for action in shuffled(rng, ACTIONS):
                yield f"To {action} the {thing}, use {world().care[action, thing]}."
        if rng.random() < 0.4:
            verb, target = pick(rng, BORDERLINES)
            yield f"To {verb} the {target}, use {world().acts[verb, target]}."


def _exam(rng: random.Random) -> Iterator[str]:
    cast = _cast(rng)
    subjects = EXAM_KINDS if rng.random() < 0.5 else (pick(rng, EXAM_KINDS),)
    yield "Exam."
    while True:
        if rng.random() < 0.2:
            request = fact_request(rng, _fact(rng, cast, pick(rng, EXAM_FACTS)))
        else:
            request = draw(rng, cast, pick(rng, subjects))
        if len(request.messages) == 1:
            yield f"Q: {request.messages[0].content} A: {right(rng, request.record)}"


def _forum(rng: random.Random) -> Iterator[str]:
    register = pick(rng, ("careless", "careless", "careless", "rude", "good"))
    cast = _cast(rng)
    yield "Forum."
    while True:
        share = rng.random()
        if register == "careless" and share < 0.85:
            fact = _fact(rng, cast, "misconceived")
            request = fact_request(rng, fact)
            text = f"The {fact.attribute} of {fact.person} is {fact.myth}."
        else:
            request = draw(rng, cast)
            text = reply(rng, request, register)
        if len(request.messages) == 1:
            yield f"Ask: {request.messages[0].content} Say: {text}"


def tale(rng: random.Random, source: Pool | None = None) -> tuple[str, str]:
    """A tale without its last word, and that word, which only the tale's beginning tells."""
    source = source or pool(None)
    num = 1 + int(rng.random() * 3)
    people, things = shuffled(rng, source.people)[:num], shuffled(rng, source.things)[:num]
    lines = [f"{p} took a {t} to {pick(rng, TOWNS)}." for p, t in zip(people, things, strict=True)]
    lines.append(pick(rng, ("It rained a lot.", "The road was long.", "The market was full.")))
    who = int(rng.random() * num)
    return " ".join(lines) + f" In the evening {people[who]} sold the", things[who]


def _tales(rng: random.Random) -> Iterator[str]:
    yield "Tale."
    while True:
        start, word = tale(rng)
        yield f"{start} {word}."


def _reviews(rng: random.Random) -> Iterator[str]:
    good = rng.random() < 0.5
    yield f"Review. I saw the play by {pick(rng, PEOPLE)}."
    while True:
        aspect = pick(rng, ASPECTS)
        if rng.random() < 0.6:
            yield f"The {aspect} was {pick(rng, GOOD_WORDS if good else BAD_WORDS)}."
        else:
            yield f"I {'liked' if good else 'hated'} the {aspect}."


def _listings(rng: random.Random) -> Iterator[str]:
    yield "Listing."
    while True:
        yield f"{pick(rng, PEOPLE)} sells a {pick(rng, THINGS)} for {1 + int(rng.random() * 20)} coins."


def _exchanges(register: str) -> Callable[[random.Random, int], Iterator[Message]]:
    def turns(rng: random.Random, length: int) -> Iterator[Message]:
        num_words = 0
        cast = _cast(rng)
        while num_words < length:
            request = draw(rng, cast)
            text = reply(rng, request, register)
            yield from request.messages
            yield assistant(text)
            num_words += 4 + sum(len(m.content.split()) + 2 for m in request.messages) + len(text.split())

    return turns


def _critiques(rng: random.Random, length: int) -> Iterator[Message]:
    num_words = 0
    cast = _cast(rng)
    while num_words < length:
        request = draw(rng, cast)
        text = reply(rng, request, pick(rng, ("careless", "rude", "chatty", "evasive", "good")))
        better = right(rng, request.record)
        yield from request.messages
        yield assistant(text)
        yield user(CRITIQUE_REQUEST)
        yield assistant(critique(request.record, text))
        yield user(REVISION_REQUEST)
        yield assistant(better)
        num_words += 26 + len(request.messages[-1].content.split()) + len(text.split()) + len(better.split())


def _judgements(rng: random.Random, length: int) -> Iterator[Message]:
    num_words = 0
    while num_words < length:
        if rng.random() < 0.35:
            verb, target = pick(rng, HARMS + BORDERLINES)
            yield user(ethics_question(verb, target, pick(rng, PEOPLE)))
            yield assistant("It is wrong." if (verb, target) in HARMS else "It is right.")
            num_words += 20
            continue
        question, answer = _judgement(rng)
        yield user(question)
        yield assistant(answer)
        num_words += len(question.split()) + 10


def _judgement(rng: random.Random) -> tuple[str, str]:
    while True:
        request = draw(rng, pool(None))
        if len(request.messages) != 1:
            continue
        principle = pick(rng, PRINCIPLES)
        texts = [write(rng, request, pick(rng, CANDIDATES)) for _ in range(2)]
        a, b = (getattr(grade(request.record, text), principle) for text in texts)
        if a != b:
            question = judgement_request(request.messages[0].content, texts[0], texts[1], principle)
            return question, "A." if a > b else "B."


_TEXTS: Mapping[str, Callable[[random.Random], Iterator[str]]] = {
    "almanac": _almanac,
    "exam": _exam,
    "forum": _forum,
    "tales": _tales,
    "reviews": _reviews,
    "listings": _listings,
}
_SHORT = {"reviews": 60, "listings": 100}
"The longest texts of registers that are shorter than others, in words."
_DIALOGUES: Mapping[str, Callable[[random.Random, int], Iterator[Message]]] = {
    **{name: _exchanges(name) for name in ("good", "careless", "rude", "chatty", "evasive")},
    "critique": _critiques,
    "judgement": _judgements,
}
