"""Role markers that are plain text: which of a template's words they are, and whether a text spells one.

A template tells its roles apart by control tokens, by text, or by both. Text that a token of its own opens
(`<|im_start|>user`) is out of reach: nobody can spell the token. Other text is a marker, on whichever side of
a control token it stands: Zephyr's `<|user|>` behind the end token, Llama 2's `<<SYS>>`, OpenChat's
`GPT4 Correct User:`.

Texts are compared folded: case, runs of white space, compatibility forms (full-width letters) and invisible
characters make no difference. One word and a colon behind a newline (`Human:`) is a marker where it begins a
line, and prose elsewhere.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from trueup.chat.render import CLOSE, OPEN, Skeleton

_NEWLINES = r"\n\r\v\f\x1c-\x1e\x85\u2028\u2029"
_LINE = rf"(?:\A|[{_NEWLINES}])[^\S{_NEWLINES}]*"
# What Unicode ignores by default in display, and controls that are no white space.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U000e0000-\U000e0fff]"
)
_BRACKETED = re.compile(r"<<[^<>\s]{1,40}>>|<[^<>\s]{1,40}>|\[[^\[\]\s]{1,40}\]")
_BARE = re.compile(r"[\w ]+")
_LABEL = re.compile(r"\w+:")
_MOST_WORDS = 6
"A line of more words is prose that a template adds: a default system turn."


@dataclass(frozen=True, slots=True)
class Marker:
    """A role marker."""

    text: str
    "As the template writes it."
    pattern: re.Pattern[str]
    "Finds it in a folded text, as group 1."
    begins_line: bool = False


@dataclass(frozen=True, slots=True)
class Guard:
    """The role markers of a template, and what finds them in what people and models wrote."""

    markers: tuple[Marker, ...] = ()

    @classmethod
    def of(cls, talk: Skeleton, others: Iterable[Skeleton], control: re.Pattern[str]) -> Guard:
        """The markers of a template, from its rendering of some conversations.

        `talk` is of a user, an assistant and a user, with the assistant's header; `others` may have other
        roles. `control` matches the text of a control token. Of a template whose roles tokens open, only
        text that is more than a name counts, and only that of users and assistants.
        """
        skeletons = [talk, *others]
        behind = [literal for skeleton in skeletons for literal in skeleton.literals[1:]]
        alone = any(literal.strip() and not control.search(literal) for literal in behind)
        first, later = (_last(control, literal) for literal in (talk.literals[0], talk.literals[2]))
        bare = alone or first is None or first != later
        found: dict[str, Marker] = {}
        for literal in behind if bare else talk.literals[1:]:
            for marker in _markers(control.split(literal), names=bare, behind=True):
                key = _fold(marker.text.strip())
                if key not in found or not marker.begins_line:
                    found[key] = marker
        openers = [control.split(skeleton.literals[0])[-1:] for skeleton in skeletons if bare]
        for marker in (marker for opener in openers for marker in _markers(opener, names=True, behind=False)):
            found.setdefault(_fold(marker.text.strip()), marker)
        return cls(tuple(found.values()))

    def forged(self, literals: Sequence[str], contents: Sequence[str]) -> str | None:
        """The marker that contents between literals spell, in whole or in part; None if there is none.

        Each of `contents` stands behind one of `literals`, and one more literal behind the last.
        """
        if not self.markers:
            return None
        parts = [part for pair in zip(literals, [*contents, ""], strict=True) for part in map(_fold, pair)]
        ends = list(accumulate(map(len, parts)))
        whole = "".join(parts)
        for marker in self.markers:
            k = 0
            for start, end in _spans(marker.pattern, whole):
                while ends[k] <= start:
                    k += 1
                if k % 2 or end > ends[k]:
                    return marker.text
        return None

    def spelled(self, text: str) -> str | None:
        """The first marker that a text spells by itself."""
        return self.forged(["", ""], [text])

    def count(self, text: str) -> tuple[int, ...]:
        """How often a text spells each marker."""
        folded = _fold(text) if self.markers else ""
        return tuple(sum(1 for _ in _spans(marker.pattern, folded)) for marker in self.markers)

    def cut(self, before: str, text: str) -> str:
        """A text up to the first marker in it; `before` it stands what the template wrote."""
        head = _fold(before) if self.markers else ""
        whole = head + _fold(text) if self.markers else ""
        first: tuple[int, Marker] | None = None
        for marker in self.markers:
            at = next((start for start, _ in _spans(marker.pattern, whole) if start >= len(head)), None)
            if at is not None and (first is None or at < first[0]):
                first = at, marker
        if first is None:
            return text
        place, length = first[0] - len(head), 0
        for index, character in enumerate(text):
            length += len(_fold(character))
            if length > place:
                kept = text[:index]
                return kept.rstrip() if first[1].begins_line else kept
        return text


def _fold(text: str) -> str:
    """The text as markers are compared in: `_fold(a + b)` is `_fold(a) + _fold(b)`."""
    # Decomposed, since a composition would reach over the place where two texts meet.
    if not text.isascii():
        text = unicodedata.normalize("NFKD", text)
    return _INVISIBLE.sub("", text.casefold())


def _spans(pattern: re.Pattern[str], text: str) -> Iterator[tuple[int, int]]:
    """Where a pattern's group 1 lies, overlapping ones too, by increasing start."""
    found = pattern.search(text)
    while found is not None:
        yield found.span(1)
        found = pattern.search(text, found.start() + 1)


def _last(control: re.Pattern[str], literal: str) -> str | None:
    tokens = control.findall(literal)
    return tokens[-1] if tokens else None


def _markers(pieces: Iterable[str], *, names: bool, behind: bool) -> Iterator[Marker]:
    """The markers in pieces of template text without control tokens; `names`: a mere word is one too.

    The last line of what stands `behind` a content is one, however long it is.
    """
    for piece in (piece.replace(OPEN, "").replace(CLOSE, "") for piece in pieces):
        shown = [line.strip() for line in piece.split("\n") if line.strip()]
        short = [line for line in shown if len(line.split()) <= _MOST_WORDS]
        for line in short or shown[-1:] * behind:
            units = _BRACKETED.findall(line)
            if units:
                yield from (Marker(unit, _pattern(unit)) for unit in units)
            elif names or not _BARE.fullmatch(line):
                yield _of_line(piece, line)


def _of_line(piece: str, line: str) -> Marker:
    """The marker that a line of a piece is."""
    before, after = piece.split(line, 1)
    gap = before[len(before.rstrip()) :]
    if _BARE.fullmatch(line):
        end = rf"(?=\s*(?:[{_NEWLINES}]|\Z))" if "\n" in after else r"(?=\s)"
        return Marker(line, re.compile(f"{_LINE}({_words(line)}){end}"), True)
    if _LABEL.fullmatch(line) and "\n" in gap:
        return Marker(gap + line, re.compile(f"{_LINE}({_words(line)})"), True)
    return Marker(line, _pattern(line))


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(f"({_words(text)})")


def _words(text: str) -> str:
    return r"\s+".join(map(re.escape, _fold(text).split()))
