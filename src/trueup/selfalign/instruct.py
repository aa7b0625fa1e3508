"""Topic-guided red-teaming self-instruct: a base model writes the tasks that it will answer.

    tasks      lists of seed and new tasks, continued (Wang et al. 2023)
    topics     for each of the question types, a list of topics, continued
    hinted     lists of tasks under hints (type; topic), continued: what is hard to answer well

(Sun et al. 2023, section 3.1.) A round asks a few lists at once and depends on the seed, its number and
what the rounds before it kept. A new task is kept when it is well formed, and by ROUGE-L is unlike all that
were kept before it; every other one is counted under the reason for which it was dropped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

from trueup.answerers import Answer, Conversation
from trueup.data.words import spaced, words
from trueup.engine.groups import Message, Role
from trueup.engine.order import derive, permutation
from trueup.selfalign.filters import NO_ROOM
from trueup.selfalign.rouge import Pool
from trueup.selfalign.supervision import Listing, Supervision, sections

Phase = Literal["tasks", "topics", "hinted"]
Hint = tuple[str, str]
"A question type's name, and a topic."


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How many tasks are wanted, and which are well formed."""

    num_tasks: int
    "New tasks without a hint."
    num_topics: int
    "Topics to look for, over all question types."
    num_hinted: int
    "New tasks under hints."
    rounds: int
    "At most so many rounds for each of the three."
    lists: int = 8
    "Lists in a round."
    shown: int = 5
    "Seed items in a list."
    new: int = 5
    "New items in a list."
    min_words: int = 4
    max_words: int = 150


@dataclass(frozen=True, kw_only=True)
class List:
    """One list to be continued: what the model reads, and how each new item must begin."""

    prompt: Conversation
    begins: tuple[tuple[str, str], ...]
    "The mark and the hint that each new item begins with; the prompt ends with the first."
    hints: tuple[Hint, ...]
    "What each new item is about; type and topic may be empty."
    shown: tuple[str, ...]
    "The items before them."
    after: str
    "The mark that would begin the item after the last."
    stop: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Round:
    """Lists of one phase, to be asked together."""

    phase: Phase
    number: int
    lists: tuple[List, ...]

    @property
    def stop(self) -> tuple[str, ...]:
        """What ends an answer: the stop strings of the longest list; a shorter one is cut when it is read."""
        return max(self.lists, key=lambda one: len(one.shown)).stop


@final
class Tasks:
    """The state of a run: what was kept so far. `next` says what to ask, `take` what came of it.

    Built anew from the records that `take` gave, it goes on where they end.
    """

    def __init__(self, supervision: Supervision, limits: Limits, seed: int) -> None:
        self.supervision, self.limits, self.seed = supervision, limits, seed
        self.tasks: list[dict[str, Any]] = []
        self.topics: list[Hint] = []
        self.rounds: dict[Phase, int] = {"tasks": 0, "topics": 0, "hinted": 0}
        hard = [q.instruction for q in supervision.question_types]
        self._pool = Pool([*supervision.seeds, *hard])
        self._known = {(q.name, q.topic.casefold()) for q in supervision.question_types}

    def next(self) -> Round | None:
        """The next round; None when enough was found, or looked for."""
        phase = self._phase()
        if phase is None:
            return None
        number = self.rounds[phase]
        lists = tuple(self._list(phase, number, place) for place in range(self.limits.lists))
        return Round(phase=phase, number=number, lists=lists)

    def take(self, asked: Round, answers: Sequence[Answer | None]) -> dict[str, Any]:
        """The record of a round: the rows it keeps, the texts it drops and why. The state takes it in.

        None stands for the answer of a list that does not fit the model.
        """
        kept: list[dict[str, Any]] = []
        dropped: list[dict[str, str]] = []
        for place, (one, answer) in enumerate(zip(asked.lists, answers, strict=True)):
            for item, (text, hint, reason) in enumerate(_items(one, answer)):
                text = " ".join(text.split())
                reason = reason or self._refusal(asked.phase, text, hint)
                if reason:
                    dropped.append({"text": text, "reason": reason})
                    continue
                row = {"text": text, "list": place, "item": item, "shown": list(one.shown)}
                row |= {"type": hint[0], "topic": hint[1]} if hint[0] else {}
                kept.append({**row, "phase": asked.phase, "round": asked.number})
                self._add(asked.phase, text, hint)
        record = {"phase": asked.phase, "round": asked.number, "rows": kept, "dropped": dropped}
        self._count(record)
        return record

    def replay(self, record: dict[str, Any]) -> None:
        """Nothing; the state is as it was after this record was made."""
        for row in record["rows"]:
            self._add(record["phase"], row["text"], (row.get("type", ""), row.get("topic", "")))
        self._count(record)

    def _count(self, record: dict[str, Any]) -> None:
        self.rounds[record["phase"]] += 1
        if record["phase"] != "topics":
            self.tasks += record["rows"]

    def _add(self, phase: Phase, text: str, hint: Hint) -> None:
        if phase == "topics":
            self.topics.append((hint[0], text))
            self._known.add((hint[0], text.casefold()))
        else:
            self._pool.add(text)

    def _phase(self) -> Phase | None:
        """The first phase that has found too little, and has rounds left."""
        found = {
            "tasks": sum(row["phase"] == "tasks" for row in self.tasks),
            "topics": len(self.topics),
            "hinted": sum(row["phase"] == "hinted" for row in self.tasks),
        }
        limits = self.limits
        wanted = {"tasks": limits.num_tasks, "topics": limits.num_topics, "hinted": limits.num_hinted}
        types = self.supervision.question_types
        phases: tuple[Phase, ...] = ("tasks", "topics", "hinted") if types else ("tasks",)
        for phase in phases:
            if found[phase] < wanted[phase] and self.rounds[phase] < limits.rounds:
                return phase
        return None

    def _list(self, phase: Phase, number: int, place: int) -> List:
        if phase == "topics":
            return self._topic_list(number, place)
        if phase == "hinted":
            return self._hinted_list(number, place)
        known = [*self.supervision.seeds, *(r["text"] for r in self.tasks if r["phase"] == "tasks")]
        order = permutation(len(known), self.seed, "tasks", number, place)
        shown = [(known[int(i)], ("", "")) for i in order[: self.limits.shown]]
        return _listed(self.supervision.new_tasks, shown, [("", "")] * self.limits.new)

    def _topic_list(self, number: int, place: int) -> List:
        """A list of topics of one type; the types take turns."""
        types = self.supervision.question_types
        one = types[(number * self.limits.lists + place) % len(types)]
        mine = [one.topic, *(topic for name, topic in self.topics if name == one.name)]
        order = permutation(len(mine), self.seed, "topics", number, place)
        shown = [(mine[int(i)], (one.name, "")) for i in order[: self.limits.shown]]
        return _listed(self.supervision.topics, shown, [(one.name, "")] * self.limits.new)

    def _hinted_list(self, number: int, place: int) -> List:
        """A list under hints: seeds with theirs, then new pairs of a type and one of its topics."""
        types = self.supervision.question_types
        order = permutation(len(types), self.seed, "hinted", number, place)
        chosen = [types[int(i)] for i in order[: self.limits.shown]]
        shown = [(q.instruction, (q.name, q.topic)) for q in chosen]
        known: list[Hint] = self.topics or [(q.name, q.topic) for q in types]
        order = permutation(len(known), self.seed, "hints", number, place)
        new = [known[int(i)] for i in order[: self.limits.new]]
        return _listed(self.supervision.hinted, shown, new)

    def _refusal(self, phase: Phase, text: str, hint: Hint) -> str:
        if phase == "topics":
            return topic_refusal(text) or ("repeated" if (hint[0], text.casefold()) in self._known else "")
        return instruction_refusal(text, self.supervision, self.limits) or self._pool.refusal(text)


def topic_refusal(text: str) -> str:
    """Why this is no topic, or "": at most three words, a capital first, no punctuation at the end."""
    if not text:
        return "empty"
    if len(text.split()) > 3:
        return "long"
    if text[0] != text[0].upper() or not text[0].isalpha():  # scripts without case have no other
        return "lower case"
    return "" if text[-1].isalnum() else "punctuation"


def instruction_refusal(text: str, supervision: Supervision, limits: Limits) -> str:
    """Why this is no instruction, or "": the filters of self-instruct (Wang et al. 2023, appendix A)."""
    if not text:
        return "empty"
    count = len(spaced(text).split())
    if count < limits.min_words:
        return "short"
    if count > limits.max_words:
        return "long"
    ascii_alone = all(seed[:1].isascii() for seed in supervision.seeds)
    if not text[0].isalnum() or (ascii_alone and not text[0].isascii()):
        return "start"
    lower = text.casefold()
    if lower.startswith(tuple(o.casefold() for o in supervision.words.banned_openings)):
        return "opening"
    said = _spaced(text)
    return "keyword" if any(_spaced(word) in said for word in supervision.words.banned) else ""


def _spaced(text: str) -> str:
    """The words of a text between spaces, so that whole words are found in it and no part of one."""
    return f" {' '.join(words(text))} "


def _listed(form: Listing, shown: Sequence[tuple[str, Hint]], new: Sequence[Hint]) -> List:
    """The list with these items shown and those to come."""
    type = next((hint[0] for hint in new), "")
    text = form.head.replace("{type}", type)
    for number, (item, hint) in enumerate(shown, 1):
        text += "".join(form.begin(number, *hint)) + f" {item}"
    first = len(shown) + 1
    begins = tuple(form.begin(first + i, *hint) for i, hint in enumerate(new))
    after = form.mark.replace("{number}", str(first + len(new)))
    # Without numbers nothing tells the end of the list from the next item but that one is wanted.
    ends = (after,) if after != form.mark or len(new) == 1 else ()
    return List(
        prompt=(Message(Role.TEXT, text + "".join(begins[0])),),
        begins=begins,
        hints=tuple(new),
        shown=tuple(item for item, _ in shown),
        after=after,
        stop=(*ends, *form.stop),
    )


def _items(one: List, answer: Answer | None) -> Iterator[tuple[str, Hint, str]]:
    """The new items of a list, each with why it cannot count, or "".

    One that does not begin by the exact hint expected of it is not as hinted, nor is any after it; the last
    one of a list that was cut off at the longest length is not whole.
    """
    if answer is None:
        yield from (("", hint, NO_ROOM) for hint in one.hints)
        return
    pieces = sections(answer.text, [*(mark for mark, _ in one.begins[1:]), one.after])
    as_hinted = True
    for place, (hint, (_, expected)) in enumerate(zip(one.hints, one.begins, strict=True)):
        if place >= len(pieces):
            yield "", hint, "missing"
            continue
        piece = pieces[place]
        if place:
            as_hinted = as_hinted and piece.startswith(expected)
            piece = piece.removeprefix(expected)
        cut = place == len(pieces) - 1 and answer.finish == "length"
        yield piece, hint, "cut off" if cut else "" if as_hinted else "not as hinted"


def asked_seed(seed: int, one: Round) -> int:
    """The seed of a round's samples."""
    return derive(seed, "self-instruct", one.phase, one.number)
