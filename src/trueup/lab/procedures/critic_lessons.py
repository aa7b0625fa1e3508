"""Lessons in critiquing, revising and judging for a base model that cannot do it yet: the lab's own truth.

Constitutional AI lets a pretrained model judge, and takes for granted that it can (Bai et al. 2022b had one
of 52 billion parameters). The lab's base has read some critiques and cannot: `critique_quality` says how
well. These lessons stand in for what a larger model brings along. They are about the entities of another
split than the requests that are critiqued later, and ask in other words than the constitution's principles.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import Ge

import trueup.lab as lab
from trueup.constitution.principles import read_constitution
from trueup.engine.groups import Completion, Group, Message, Role, write_jsonl
from trueup.lab.documents import CANDIDATES
from trueup.lab.graders import grade
from trueup.lab.replies import reply, right, write
from trueup.lab.requests import CRITIQUE_REQUEST, REVISION_REQUEST, Request, draw, pool
from trueup.lab.world import Split, generator, pick
from trueup.runs import meter as metering
from trueup.runs.recipe import Done
from trueup.settings.forms import fill
from trueup.settings.schema import Word

SUMMARY = "Write lessons in critiquing and judging about other requests, with the lab's truth as the teacher."
REFERENCES = ("bai2022b",)
OUTPUT = "groups.jsonl"

REMINDERS = (
    "",
    "Do well.",
    "Think of everybody.",
    "A wise person says this.",
    "Let all be safe.",
    "Somebody may cry.",
    "Mind what comes of it.",
    "Be fair to all.",
)
"What may stand before a request to critique or revise; a constitution has principles there, none of these."
CONTESTS = (
    ("Which answer is safer?", "harmless"),
    ("Which answer does more good?", "harmless"),
    ("Which answer should nobody fear?", "harmless"),
    ("Which answer would a wise person say?", "harmless"),
    ("Which answer is more use?", "helpful"),
    ("Which answer can be trusted more?", "honest"),
)
"Questions that compare two answers, with the part of the truth that decides; a constitution's are others."
REGISTERS = ("careless", "rude", "chatty", "evasive", "good")


@dataclass(frozen=True, kw_only=True)
class Config:
    """How many lessons, about what, and about whom."""

    split: Split = "dev"
    "Whose people and things the lessons are about."
    num_critiques: Annotated[int, Ge(0)] = 500
    "Answers that are critiqued, revised after it, and revised at once: three rows each."
    num_judgements: Annotated[int, Ge(0)] = 1500
    kinds: tuple[Word, ...] = ("harmful", "toxic_start", "borderline", "howto", "misguided", "plain")
    "Kinds of requests, equally often."
    constitution: str = "world:constitution"
    "Whose form of a comparison is taught; none of its principles is."
    seed: int = 0


def run(config: Config, folder: Path, *, stop_requested: Callable[[], str]) -> Done:
    """`groups.jsonl`: requests to critique, to revise and to judge, each with a right answer."""
    groups = [*_critiques(config), *_judgements(config)]
    write_jsonl(str(folder / OUTPUT), groups)
    metrics = {"rows": float(len(groups))}
    meter = metering.Meter(folder)
    meter.write(0, metrics, phase="critic_lessons")
    return Done(output=OUTPUT, metrics=metrics, cost=vars(meter.spend(0, tokens_trained=0, tokens_sampled=0)))


def _critiques(config: Config) -> Iterator[Group]:
    for number in range(config.num_critiques):
        rng = generator("critic lessons", config.seed, number)
        request = draw(rng, pool(config.split), pick(rng, config.kinds))
        text = reply(rng, request, pick(rng, REGISTERS))
        reminder = pick(rng, REMINDERS)
        asked = (*request.messages, _said(text), _asked(f"{reminder} {CRITIQUE_REQUEST}"))
        found = lab.critique(request.record, text)
        yield _row(f"critique-{config.seed}-{number}", asked, found)
        better, revise = right(rng, request.record), _asked(f"{reminder} {REVISION_REQUEST}")
        yield _row(f"revision-{config.seed}-{number}", (*asked, _said(found), revise), better)
        yield _row(f"direct-{config.seed}-{number}", (*asked[:-1], revise), better)


def _judgements(config: Config) -> Iterator[Group]:
    wording = read_constitution(config.constitution).chat
    for number in range(config.num_judgements):
        rng = generator("judging lessons", config.seed, number)
        question, part = pick(rng, CONTESTS)
        request, (first, second), better = _contest(rng, config, part)
        parts = {"conversation": request.messages[-1].content, "first": first, "second": second}
        text = fill(wording.question, {**parts, "principle": question, "ask": wording.letter})
        yield _row(f"judgement-{config.seed}-{number}", (_asked(text),), f"{wording.labels[better]}.")


def _contest(rng: random.Random, config: Config, part: str) -> tuple[Request, tuple[str, str], int]:
    """A request of one turn, two answers to it, and which of them the truth prefers."""
    while True:
        request = draw(rng, pool(config.split), pick(rng, config.kinds))
        texts = (write(rng, request, pick(rng, CANDIDATES)), write(rng, request, pick(rng, CANDIDATES)))
        a, b = (getattr(grade(request.record, text), part) for text in texts)
        if len(request.messages) == 1 and a != b:
            return request, texts, int(b > a)


def _asked(text: str) -> Message:
    return Message(Role.USER, text.strip())


def _said(text: str) -> Message:
    return Message(Role.ASSISTANT, text)


def _row(id: str, prompt: tuple[Message, ...], answer: str) -> Group:
    return Group(prompt=prompt, completions=(Completion(text=answer, source="lab"),), id=id, source="lab")
