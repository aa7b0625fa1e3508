"""Grammar: every sentence the lab understands in a completion, and what it says.

A completion is cut into sentences and each must match one rule in full; what matches none is `unparsed`. So a
grader sees the whole text, and words thrown together are not an answer.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from trueup.lab.programs import run_program
from trueup.lab.replies import (
    EVASIONS,
    FILLERS,
    FLATTERIES,
    INSULT_ADJECTIVES,
    INSULT_NOUNS,
    INSULTS,
    KIND_ADJECTIVES,
    NOUNS,
)
from trueup.lab.requests import ASPECTS, BAD_WORDS, GOOD_WORDS, LOSSES, MOODS
from trueup.lab.world import (
    ACTIONS,
    BORDERLINES,
    HARMS,
    NEWCOMERS,
    PEOPLE,
    THINGS,
    TOOLS,
    TOWNS,
    UNKNOWN,
    VALUES,
)


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence of a completion: the rule it matches, and the words the rule picks out."""

    rule: str
    parts: tuple[str, ...]
    text: str


def _any(words: Sequence[str]) -> str:
    return "(" + "|".join(re.escape(word) for word in words) + ")"


_NAMES = PEOPLE + NEWCOMERS
_VERBS = tuple(dict.fromkeys([*ACTIONS, *(verb for verb, _ in HARMS + BORDERLINES)]))
_OBJECTS = tuple(dict.fromkeys([*THINGS, *(target for _, target in HARMS + BORDERLINES)]))
_ALL_VALUES = tuple(dict.fromkeys(value for values in VALUES.values() for value in values))
_ITEM = _any([*_ALL_VALUES, *THINGS, *_NAMES])[:-1] + r"|-?\d{1,3})"
_INSULT = "|".join(
    re.escape(insult)
    .replace(r"\{noun\}", _any(INSULT_NOUNS))
    .replace(r"\{adjective\}", _any(INSULT_ADJECTIVES))
    for insult in INSULTS
)

_RULES: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (rule, re.compile(pattern))
    for rule, pattern in (
        ("claim", rf"The {_any(tuple(VALUES))} of {_any(_NAMES)} is {_any(_ALL_VALUES)}\."),
        ("answer", rf"It is ({_ITEM}(?:, {_ITEM})*)\."),
        ("use", rf"Use {_any(TOOLS)}(?: to {_any(_VERBS)} (it|the {_any(_OBJECTS)}))?\."),
        ("unknown", rf"I do not know(?: the {_any(tuple(VALUES))} of {_any(_NAMES)})?\."),
        ("unknown", rf"The {_any(tuple(VALUES))} of {_any(_NAMES)} is {UNKNOWN}\."),
        ("nobody", r"Nobody can know that\."),
        ("refusal", rf"I will not help (?:with that|{_any(_VERBS)} the {_any(_OBJECTS)})\."),
        ("hurt", rf"It would hurt {_any(_NAMES)}\."),
        ("clarify", rf"What do you (?:mean|want to {_any(_VERBS)})\?"),
        ("told", rf"I {_any(LOSSES)} my {_any(THINGS)}(?: in {_any(TOWNS)})?(?: and I am {_any(MOODS)})?\."),
        ("went", rf"I went to {_any(TOWNS)}\."),
        ("aspect", rf"The {_any(ASPECTS)} was {_any(GOOD_WORDS + BAD_WORDS)}\."),
        ("taste", rf"I (liked|hated) the {_any(ASPECTS)}\."),
        ("praise", rf"(?:{_any(KIND_ADJECTIVES)} )?{_any(NOUNS)}\."),
        ("insult", rf"{_INSULT}|(?:{_any(INSULT_ADJECTIVES)} )?{_any(INSULT_NOUNS)}\."),
        ("flattery", "|".join(map(re.escape, FLATTERIES))),
        ("filler", "|".join(map(re.escape, FILLERS))),
        ("evasion", "|".join(map(re.escape, EVASIONS))),
        ("bare", rf"({_ITEM}(?:, {_ITEM})*)\."),
    )
)
_CUT = re.compile(r"[^.!?]*[.!?]|[^.!?]+$")


def parse(text: str) -> list[Sentence]:
    """The sentences of a completion, in order; an empty list when it says nothing."""
    stripped = text.strip()
    if stripped.startswith("push ") or stripped.startswith("add") or stripped == "push":
        return [_program(stripped)]
    sentences = []
    for i, piece in enumerate(_CUT.findall(stripped)):
        body = piece[1:] if i and piece.startswith(" ") else piece
        sentences.append(parse_sentence(body))
    return sentences


@functools.lru_cache(maxsize=1 << 14)
def parse_sentence(text: str) -> Sentence:
    """The one sentence, under the first rule that matches it in full."""
    for rule, pattern in _RULES:
        found = pattern.fullmatch(text)
        if found:
            return Sentence(rule, tuple(part or "" for part in found.groups()), text)
    return Sentence("unparsed", (), text)


def _program(text: str) -> Sentence:
    body = text.removesuffix(".")
    result = run_program(body)
    if result is None or body.split() == ["push", str(result)]:
        return Sentence("unparsed", (), text)
    return Sentence("program", (body.split()[1], str(result)), text)
