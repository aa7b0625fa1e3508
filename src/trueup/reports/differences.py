"""Replies with what differs from another reply to the same prompt marked, word by word."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from itertools import pairwise

from markupsafe import Markup, escape

from trueup.reports.record import Reply, Sample
from trueup.reports.visible import visible

MOST_CHARACTERS = 3000
"Of a text that a person or a model wrote; what is longer is cut before it is shown."
_MOST_MATCHES = 10_000
"Equal pairs of words of two texts, which is what a comparison costs; 500 words of prose have about 4,000."
_LEAST_ALIKE = 0.3
"Of texts that share less, no word is worth marking."
_WORD = re.compile(
    r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]"  # written without spaces: one by one
    r"|(?:\w|[^\x00-\x7f\s\u2000-\u206f\u3000-\u303f])+|\S"
)


def cut(text: str) -> str:
    """The text, or its beginning and how much of it is left out."""
    over = len(text) - MOST_CHARACTERS
    return text if over <= 0 else f"{text[:MOST_CHARACTERS]} … ({over} more characters)"


def marked(samples: Sequence[Sample], against: str) -> list[Sample]:
    """The samples, every reply marked where it differs from that of `against` to the same prompt."""
    return [_marked(sample, against) for sample in samples]


def _marked(sample: Sample, against: str) -> Sample:
    other = sample.replies.get(against)
    if other is None:
        return sample
    replies = {
        name: reply if name == against else _with_marks(reply, other.text)
        for name, reply in sample.replies.items()
    }
    return replace(sample, replies=replies)


def _with_marks(reply: Reply, other: str) -> Reply:
    return replace(reply, marks=differences(reply.text, other) if reply.text else None)


def differences(text: str, other: str) -> Markup | None:
    """`text` as HTML: `<ins>` holds what `other` lacks, `<del>` what stands in its place there.

    Compared are words, whatever the spaces between them, of as much of both as is shown. None where nothing
    is worth marking: the two share too little; or they repeat themselves so much that it would take long.
    """
    (here, told), (there, said) = _pieces(text), _pieces(other)
    ours, theirs = Counter(here), Counter(there)
    if sum(num * theirs[word] for word, num in ours.items()) > _MOST_MATCHES:
        return None
    matcher = SequenceMatcher(None, there, here, autojunk=False)
    if matcher.ratio() < _LEAST_ALIKE:
        return None
    parts = [Markup(escape(told[0]))]
    for what, i, j, k, m in matcher.get_opcodes():
        new, old = "".join(told[k + 1 : m + 1]), " ".join("".join(said[i + 1 : j + 1]).split())
        if what == "equal":
            parts.append(escape(new))
            continue
        parts += [_mark("del", old)] if old else []
        parts += [_mark("ins", new)] if new else []
    left_out = cut(text)[MOST_CHARACTERS:]
    return Markup("").join([*parts, escape(left_out)])


def _mark(tag: str, text: str) -> Markup:
    """The text in an element, its last spaces after it."""
    inner = text.rstrip()
    return Markup("<{0}>{1}</{0}>{2}").format(Markup(tag), inner, text[len(inner) :])


def _pieces(text: str) -> tuple[list[str], list[str]]:
    """The words of a text as shown; and what stands before the first, then each with what follows it."""
    shown = visible(text[:MOST_CHARACTERS])
    found = list(_WORD.finditer(shown))
    starts = [0, *(match.start() for match in found), len(shown)]
    return [match[0] for match in found], [shown[a:b] for a, b in pairwise(starts)]
