"""Instructions that a rule can check: how each is asked for, whether a text meets it, and what it goes with.

The idea is that of IFEval (Zhou et al. 2023, arXiv 2311.07911); constraints, wordings and rules are ours.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from trueup.real.reading import bullets, lowered, sentences, words

Asked = Mapping[str, Any]
"One constraint of a request: its `kind`, and `n`, `phrase`, `word` or `keys`."
ENDS = ("That is all.", "I hope this helps.", "Ask me again any time.", "Have a good day.", "Over to you.")
STARTS = ("In short:", "My answer:", "Here you go:", "Good question!")
KEYS = {"fact": ("answer",), "advice": ("topic", "advice"), "thing": ("title", "text")}


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """One kind of constraint."""

    asks: tuple[str, ...]
    met: Callable[[str, Asked], bool]


def is_met(text: str, asked: Asked) -> bool:
    """Whether a text meets a constraint."""
    return CONSTRAINTS[asked["kind"]].met(text.strip(), asked)


def told(asked: Asked) -> list[str]:
    """What the constraint has written word by word, which is nobody's own answer."""
    return [asked["phrase"]] if "phrase" in asked else list(asked.get("keys", ()))


def fit_together(kinds: tuple[str, ...]) -> bool:
    """Whether one text can meet constraints of these kinds."""
    return not any(frozenset(pair) in _CLASHES for pair in combinations(kinds, 2))


def _cased(text: str, change: Callable[[str], str]) -> bool:
    return any(c.isalpha() for c in text) and text == change(text)


def _bullets(text: str, asked: Asked) -> bool:
    found = bullets(text)
    return len(found) == asked["n"] and all(len(words(item)) >= 2 for item in found)


def _sentences(text: str, asked: Asked) -> bool:
    found = sentences(text)
    return len(found) == asked["n"] and (asked["n"] == 1 or all(len(words(one)) >= 3 for one in found))


def _object(text: str, asked: Asked) -> bool:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return False
    if not isinstance(found, dict) or set(found) != set(asked["keys"]):
        return False
    return all(isinstance(v, str | int) and not isinstance(v, bool) and words(str(v)) for v in found.values())


def _ends(text: str, asked: Asked) -> bool:
    return text.endswith(asked["phrase"]) and bool(words(text.removesuffix(asked["phrase"])))


def _starts(text: str, asked: Asked) -> bool:
    return text.startswith(asked["phrase"]) and bool(words(text.removeprefix(asked["phrase"])))


def _quoted(text: str, asked: Asked) -> bool:
    inside = text[1:-1].strip()
    return (
        len(text) > 2 and text[0] in '"“' and text[-1] in '"”' and bool(words(inside)) and '"' not in inside
    )


def _titled(text: str, asked: Asked) -> bool:
    first, _, rest = text.partition("\n")
    return bool(re.fullmatch(r"\[[^\[\]]*\w[^\[\]]*\]", first.strip())) and len(words(rest)) >= 3


def _postscript(text: str, asked: Asked) -> bool:
    before, found, after = text.rpartition("\nP.S.")
    return bool(found) and len(words(before)) >= 3 and len(words(after)) >= 3 and "\n" not in after.strip()


CONSTRAINTS: Mapping[str, Constraint] = {
    "lower": Constraint(
        asks=("Write everything in lower case letters.", "Use no capital letters at all."),
        met=lambda text, asked: _cased(text, str.lower),
    ),
    "upper": Constraint(
        asks=("Write everything in capital letters.", "Use capital letters only."),
        met=lambda text, asked: _cased(text, str.upper),
    ),
    "quoted": Constraint(
        asks=("Put your whole answer in double quotation marks.", "Wrap the entire answer in double quotes."),
        met=_quoted,
    ),
    "no_commas": Constraint(
        asks=("Do not use any commas.", "Your answer must not contain a comma."),
        met=lambda text, asked: "," not in text,
    ),
    "ends": Constraint(
        asks=("End your answer with the exact words: {phrase}", "Your last sentence must be: {phrase}"),
        met=_ends,
    ),
    "starts": Constraint(asks=("Begin your answer with the exact words: {phrase}",), met=_starts),
    "bullets": Constraint(
        asks=(
            "Answer with exactly {n} bullet points, each on its own line after a dash.",
            'Give exactly {n} bullet points that start with "- ".',
        ),
        met=_bullets,
    ),
    "sentences": Constraint(
        asks=("Answer in exactly {n} sentence{s}.", "Use exactly {n} sentence{s}, no more and no fewer."),
        met=_sentences,
    ),
    "at_most": Constraint(
        asks=("Use at most {n} words.", "Do not write more than {n} words."),
        met=lambda text, asked: len(words(text)) <= asked["n"],
    ),
    "at_least": Constraint(
        asks=("Use at least {n} words.", "Write no fewer than {n} words."),
        met=lambda text, asked: len(words(text)) >= asked["n"],
    ),
    "json": Constraint(
        asks=(
            "Answer with a JSON object with the key{s} {named}, and nothing before or after it.",
            "Reply only with JSON that has the key{s} {named}.",
        ),
        met=_object,
    ),
    "word": Constraint(
        asks=('Use the word "{word}" in your answer.', 'Your answer must contain the word "{word}".'),
        met=lambda text, asked: asked["word"] in lowered(text),
    ),
    "title": Constraint(
        asks=(
            "Put a title in square brackets on the first line.",
            "The first line must be a title in square brackets.",
        ),
        met=_titled,
    ),
    "postscript": Constraint(
        asks=('Add a postscript at the end that starts with "P.S." on its own line.',), met=_postscript
    ),
}
SHORT = ("lower", "upper", "quoted", "ends", "starts", "sentences", "at_most", "json")
"What a fact or a sum is asked for in."
LONG = tuple(kind for kind in CONSTRAINTS if kind != "upper")
"What something longer is asked for in: small models know few words in capitals, and a rule cannot read them."
SPOKEN = ("lower", "no_commas", "ends", "sentences", "at_most")
"What a dialogue is asked for in."
_CASES, _FRAMES = ("lower", "upper"), ("starts", "ends", "title", "postscript")
_CLASHES = frozenset(
    frozenset((one, other))
    for one, others in {
        "json": ("bullets", "sentences", "quoted", "at_least", "upper", "no_commas", *_FRAMES),
        "bullets": ("sentences", "quoted", "at_least", *_FRAMES),
        "sentences": ("at_least", *_FRAMES),
        "quoted": _FRAMES,
        "lower": ("upper", *_FRAMES),
        "upper": _FRAMES,
        "title": ("starts",),
        "ends": ("postscript",),
        "at_most": ("at_least", "bullets", "sentences"),
    }.items()
    for other in others
)
