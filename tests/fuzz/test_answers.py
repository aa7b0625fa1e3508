"""A kept answer is the one that was given to this very question, or the question is asked again."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import strategies as some
from hypothesis.stateful import initialize, rule

from fuzz.bounds import InFolder, Killed, bounded
from runs.checkpoint.test_damage import FAULTS, damage
from trueup.answerers.cache import Cache

URLS = ("http://a/v1", "http://b/v1")
REQUESTS: tuple[dict[str, Any], ...] = (
    {"model": "m", "messages": [{"role": "user", "content": "q"}]},
    {"model": "m", "messages": [{"role": "user", "content": "é\u2028"}], "temperature": 0.5},
    {"model": "m", "messages": [], "logprobs": True},
    {"model": "m", "messages": [], "logprobs": 1},
)
QUESTIONS = some.tuples(some.sampled_from(URLS), some.integers(0, len(REQUESTS) - 1))
TEXT = some.text(some.characters(categories=None), max_size=8)
ANSWERS = some.dictionaries(
    TEXT,
    some.recursive(
        some.one_of(some.none(), some.booleans(), some.integers(), TEXT, some.floats(allow_nan=False)),
        lambda inner: some.one_of(some.lists(inner, max_size=3), some.dictionaries(TEXT, inner, max_size=3)),
        max_leaves=6,
    ),
    max_size=3,
)
SEEDS = some.integers(0, 2**32)
Question = tuple[str, int]


class Answers(InFolder):
    @initialize()
    def empty(self) -> None:
        self.cache = Cache(self.folder)
        self.kept: dict[Question, Any] = {}
        self.damaged: set[Question] = set()

    def path(self, question: Question) -> Path:
        return self.cache._path(question[0], REQUESTS[question[1]])

    @rule(question=QUESTIONS, answer=ANSWERS)
    def put(self, question: Question, answer: dict[str, Any]) -> None:
        self.cache.put(question[0], REQUESTS[question[1]], answer)
        self.kept[question] = answer
        self.damaged.discard(question)
        assert self.cache.get(question[0], REQUESTS[question[1]]) == answer

    @rule(question=QUESTIONS, answer=ANSWERS)
    def put_and_die(self, question: Question, answer: dict[str, Any]) -> None:
        with mock.patch.object(os, "replace", side_effect=Killed), pytest.raises(Killed):
            self.cache.put(question[0], REQUESTS[question[1]], answer)

    @rule(question=QUESTIONS, kind=some.sampled_from(FAULTS), seed=SEEDS)
    def damage(self, question: Question, kind: str, seed: int) -> None:
        # A fault in a file that is damaged already could mend it.
        if question in self.kept and question not in self.damaged:
            damage(self.path(question), kind, random.Random(seed))
            self.damaged.add(question)

    @rule(question=QUESTIONS, seed=SEEDS, again=some.booleans())
    def another_letter(self, question: Question, seed: int, again: bool) -> None:
        """What is read is JSON still, most of the time."""
        if question in self.kept and question not in self.damaged:
            text, rng = self.path(question).read_text(), random.Random(seed)
            at = rng.choice([place for place, letter in enumerate(text) if letter.isalnum()])
            other = rng.choice([letter for letter in "0123456789abcdef" if letter != text[at]])
            self.path(question).write_text(text[:at] + other + text[at + 1 :])
            self.damaged.add(question)
            if again:
                self.get(question)

    @rule(question=QUESTIONS, value=some.sampled_from(["[" * 100_000, "null", "[]", '"x"', "{}", ""]))
    def other_text(self, question: Question, value: str) -> None:
        if question in self.kept:
            self.path(question).write_text(value)
            self.damaged.add(question)

    @rule(question=QUESTIONS, other=QUESTIONS)
    def another_s_file(self, question: Question, other: Question) -> None:
        if question in self.kept and question != other and self.path(other).exists():
            shutil.copyfile(self.path(other), self.path(question))
            self.damaged.add(question)

    @rule(question=QUESTIONS)
    def get(self, question: Question) -> None:
        found = self.cache.get(question[0], REQUESTS[question[1]])
        # White space at the end of a JSON text changes nothing; any other fault is one.
        assert found is None or exact(found) == exact(self.kept[question])
        assert found is not None or question in self.damaged or question not in self.kept


def exact(value: Any) -> str:
    """The value as text, in which 1, 1.0 and true are three."""
    return json.dumps(value, sort_keys=True)


TestAnswers = Answers.TestCase
TestAnswers.settings = bounded(40)


def test_an_answer_in_which_one_letter_is_another_is_asked_for_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The file is good JSON still, and answers this question: only its SHA-256 tells."""
    cache = Cache(tmp_path)
    cache.put("u", {"q": 1}, {"text": "yes \ud800"})
    assert cache.get("u", {"q": 1}) == {"text": "yes \ud800"}
    path = cache._path("u", {"q": 1})
    path.write_text(path.read_text().replace("yes", "yet"))
    assert cache.get("u", {"q": 1}) is None
    assert "asked again" in caplog.text
