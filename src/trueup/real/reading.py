"""How a text is read by rules: its words, sentences and numbers, and whether it is prose at all."""

from __future__ import annotations

import re
from collections.abc import Sequence

_WORD = re.compile(r"[^\W_]+(?:['’\-][^\W_]+)*")
_END = re.compile(r"(?<=[.!?])[\"'”’)\]]*\s+")
_BULLET = re.compile(r"^\s*[-*•]\s+(.*\S)\s*$", re.MULTILINE)
_ROLES = re.compile(r"<\||\|>|^\s*(?:user|assistant|system)\s*:?\s*$", re.MULTILINE | re.IGNORECASE)
_CARRYING = """
a an the and or but if so as at by for from in into of off on onto out over to up with without than then that
this these those there here it its is are was were be been being am do does did have has had can could will
would should may might must not no you your we our they their them he she his her i my me when where which who
what how why while after before until because each every some any all more most very also only just about like
"""
FUNCTION = frozenset(_CARRYING.split())
"English words that carry a sentence; a list of keywords has hardly any."
_MIN_PROSE, _PROSE_LIST, _PROSE = 8, 0.05, 0.1
"From so many words on, the least share of `FUNCTION` in a list, and in running text."
_ENDS = tuple(".!?:)]}\"'”’*")
_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
)
_UNITS += " seventeen eighteen nineteen"
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_NUMBERS = {word: i for i, word in enumerate(_UNITS.split())}
_NUMBERS |= {word: 10 * i for i, word in enumerate(_TENS.split(), 2)}
_NUMBERS |= {
    f"{ten}{sep}{unit}": _NUMBERS[ten] + _NUMBERS[unit]
    for ten in _TENS.split()
    for unit in _UNITS.split()[1:10]
    for sep in ("-", " ")
}
_MARKS = frozenset(" \n.,;:!?'\"()-[]{}*•+=/%&$’“”é–—×−÷")
"What English prose has beside letters and digits."
_SPELT = re.compile(rf"\b(?:{'|'.join(sorted(_NUMBERS, key=len, reverse=True))})\b", re.IGNORECASE)


def words(text: str) -> list[str]:
    """The words of a text, as they stand."""
    return _WORD.findall(text)


def lowered(text: str) -> list[str]:
    """The words of a text in lower case."""
    return [word.lower().replace("’", "'") for word in words(text)]


def sentences(text: str) -> list[str]:
    """The sentences of a text, with words in them: what ends with a mark, and what follows the last one."""
    return [part for line in text.splitlines() for part in _END.split(line) if words(part)]


def bullets(text: str) -> list[str]:
    """What stands on the lines that begin with a dash, a star or a dot."""
    return _BULLET.findall(text)


def digits(text: str) -> str:
    """The text with numbers up to ninety-nine in digits, and without separators of thousands."""
    spelt = _SPELT.sub(lambda found: str(_NUMBERS[found[0].lower()]), text)
    return re.sub(r"(?<=\d),(?=\d{3}\b)", "", spelt)


def fault(text: str, prompt: str, told: Sequence[str], least: int) -> str:
    """What keeps a text from being an answer at all, in a few words; "" where nothing does.

    `told` are phrases that the prompt asks for word by word, which count for nothing; `least` is how many
    words there must be beside them.
    """
    bare = text
    for phrase in told:
        bare = bare.replace(phrase, " ")
    said = lowered(bare)
    if len(said) < least:
        return "says too little"
    if _ROLES.search(text):
        return "writes marks of the conversation"
    for found, why in (
        (_repeats(bare, said), "repeats itself"),
        (_copies(said, lowered(prompt), restated=least == 1), "copies the prompt"),
        (_strange(text), "is hardly English"),
        (_unprosed(text, said), "strings keywords together"),
        (_unfinished(text, said), "breaks off"),
    ):
        if found:
            return why
    return ""


def _repeats(text: str, said: list[str]) -> bool:
    if any(a == b == c for a, b, c in zip(said, said[1:], said[2:], strict=False)):
        return True
    parts = [" ".join(lowered(part)) for part in (bullets(text) or sentences(text))]
    if len(set(parts)) < len(parts):
        return True
    return len(said) >= 12 and (_distinct(said, 3) < 0.75 or _distinct(said, 1) < 0.45)


def _distinct(said: list[str], n: int) -> float:
    grams = [tuple(said[i : i + n]) for i in range(len(said) - n + 1)]
    return len(set(grams)) / len(grams)


def _copies(said: list[str], asked: list[str], *, restated: bool) -> bool:
    """Whether it is the prompt again, or mostly; a short answer may restate its question."""
    if len(said) >= 3 and f" {' '.join(said)} " in f" {' '.join(asked)} ":
        return True
    if restated or len(said) < 8:
        return False
    known = {tuple(asked[i : i + 5]) for i in range(len(asked) - 4)}
    grams = [tuple(said[i : i + 5]) for i in range(len(said) - 4)]
    return sum(gram in known for gram in grams) > 0.5 * len(grams)


def _strange(text: str) -> bool:
    plain = sum((c.isascii() and c.isalnum()) or c in _MARKS for c in text)
    return plain < 0.92 * len(text)


def _unprosed(text: str, said: list[str]) -> bool:
    share = sum(word in FUNCTION or "'" in word for word in said) / max(len(said), 1)
    return len(said) >= _MIN_PROSE and share < (_PROSE_LIST if bullets(text) else _PROSE)


def _unfinished(text: str, said: list[str]) -> bool:
    listed = bool(bullets(text)) or bool(re.search(r"^\s*\d+[.)]", text, re.MULTILINE))
    return len(said) >= 12 and not listed and not text.rstrip().endswith(_ENDS)
