"""Filters of answers: each cuts an answer, or drops it under a reason, in the order they stand in.

    whole        an answer that was cut off loses its last, partial word
    first_name   names of other assistants become this one's
    unprefaced   openings such as "According to Wikipedia," are cut off
    unrepeated   the answer ends before the first clause that it has said before
    then dropped when it is empty, too short, apologises, or has leaked what it was shown

(Sun et al. 2023, section 3.2 and appendix; the released code of stage 2 and of verbose cloning.)
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from trueup.data.words import spaced
from trueup.selfalign.supervision import Supervision

MIN_CHARS = 160
"Shortest answer to a question of the assistant's own making; 128 in verbose cloning."
NO_ROOM = "no room"
"Why there is no answer to filter: it and its prompt do not fit the model."
_ENDS = r"\n.?!;:,。？！；：，、।؟۔"
_CLAUSE = re.compile(rf"[^{_ENDS}]*(?:[{_ENDS}]+|$)")
_LEAST_SHARED = 12
"Characters from which a sentence of the supervision inside an answer is a copy, not a coincidence."


@dataclass(frozen=True)
class Filtered:
    """An answer as it is kept, or the reason for which it is not."""

    text: str
    reason: str = ""


def filter_answer(
    answer: str, supervision: Supervision, *, ended: bool, min_chars: int = MIN_CHARS
) -> Filtered:
    """The answer after all filters: `empty`, `short`, `apology` or `leaked` name why it is dropped."""
    text = answer.strip() if ended else whole(answer.strip())
    text = unprefaced(first_name(text, supervision), supervision)
    text = unrepeated(text)
    if not text:
        return Filtered("", "empty")
    if len(text) < min_chars:
        return Filtered(text, "short")
    lower = text.casefold()
    if lower.startswith(tuple(a.casefold() for a in supervision.words.apologies)):
        return Filtered(text, "apology")
    return Filtered(text, "leaked" if leaks(text, supervision) else "")


def whole(text: str) -> str:
    """The text without its last word, which may be half of one; nothing where there is but one."""
    return re.sub(r"\S*$", "", text).rstrip()


def first_name(text: str, supervision: Supervision) -> str:
    """The text with the names of other assistants replaced."""
    for name in supervision.words.other_names:
        text = re.sub(rf"\b{re.escape(name)}\b", lambda _: supervision.assistant, text, flags=re.IGNORECASE)
    return text


def unprefaced(text: str, supervision: Supervision) -> str:
    """The text without an opening that names a source it has not read; what follows begins with a capital."""
    for pattern in supervision.words.cut_openings:
        found = re.match(pattern, text, re.IGNORECASE)
        if found:
            rest = text[found.end() :].lstrip()
            text = rest[:1].upper() + rest[1:]
    return text


def unrepeated(text: str) -> str:
    """The text up to the first clause that stands in it before; clauses end at a line's end or at .?!;:,

    or at what stands for these in Chinese, Japanese, Arabic, Hindi and Urdu.
    """
    seen: set[str] = set()
    for match in _CLAUSE.finditer(text):
        clause = " ".join(match[0].strip(f"{_ENDS} ").casefold().split())
        # Numbers and single words come again in good text: a list's marks, "Yes, yes".
        if len(spaced(clause).split()) > 1:
            if clause in seen:
                return text[: match.start()].rstrip(" \n;:,；：，、")
            seen.add(clause)
    return text


def leaks(text: str, supervision: Supervision) -> bool:
    """Whether the text says a rule, a thought, a mark of the dialogue, or a word that only exemplars have."""
    lower = " ".join(text.casefold().split())
    form = supervision.dialogue
    shown = [p.rule for p in supervision.principles] + [e.thought for e in supervision.exemplars]
    marks = [m.strip() for m in (form.user, form.thoughts, form.answer, form.opening)]
    copied = [s for s in shown if len(s) >= _LEAST_SHARED] + [m for m in marks if len(m) > 3]
    return any(" ".join(s.casefold().split()) in lower for s in (*copied, *supervision.words.leaked))
