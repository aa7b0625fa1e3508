"""A further round: new models answer the prompts of a block, and comparisons with the old answers follow.

What was said before stays, and the models of earlier rounds are in the new pairs again, so that ratings go on
over the rounds on one scale. Old models are not asked: their answers stand in the store.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import sqlalchemy as sa

from trueup.answerers import Answerer
from trueup.collecting import talk
from trueup.collecting.project import Block, Converse, Project, insert
from trueup.collecting.schema import event, task
from trueup.collecting.store import Store, log, plain
from trueup.data import read
from trueup.engine.groups import Message, Role, to_json
from trueup.engine.order import permutation
from trueup.errors import TrueupError

_JUDGED = ("comparisons", "rankings", "scores")


@dataclass(frozen=True, kw_only=True)
class Round:
    """What a round asks for."""

    models: Mapping[str, str]
    "The new models by name: folders, ids, run folders, servers."
    prompts: str = ""
    "A file of prompts that all of them answer; empty for those of the block."
    limit: int = 0
    "Most tasks, drawn evenly; 0 is all."
    temperature: float = Converse.temperature
    max_new_tokens: int = Converse.max_new_tokens
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Added:
    """What a round brought."""

    number: int
    tasks: int
    alike: int
    "Pairs of answers that are the same text, which nobody is asked to compare."


@dataclass(kw_only=True)
class _Prompt:
    """A prompt with the answers to it by model."""

    row: Mapping[str, Any]
    answers: dict[str, Mapping[str, Any]]


def add_round(
    store: Store, project: Project, name: str, asked: Round, opens: Callable[[str], Answerer] | None = None
) -> Added:
    """The round with its new tasks.

    Raises E889 for a block that compares nothing or a name that a model has, E890 where nothing is there to
    compare, and what opening and asking a model raises; the store is then as it was.
    """
    block = project.tasks.get(name)
    if block is None or block.kind != "compare":
        there = ", ".join(n for n, b in project.tasks.items() if b.kind == "compare") or "none"
        remedy = f"name a block of the kind `compare`; there are: {there}"
        raise TrueupError("E889", "a round is of a block of comparisons", where=name, remedy=remedy)
    known = _known(store, name)
    taken = {source for prompt in known.values() for source in prompt.answers} & asked.models.keys()
    if taken:
        remedy = "give it another name: ratings would mix the two"
        reason = f"a model of that name has answered before: {', '.join(sorted(taken))}"
        raise TrueupError("E889", reason, where=name, remedy=remedy)
    prompts = _prompts(block, asked, known)
    for model, reference in asked.models.items():
        _answer((opens or talk.opened)(reference), model, prompts, asked)
    with store.read() as connection:
        before = sa.select(sa.func.count()).where(event.c.kind == "round")
        number = connection.execute(before).scalar_one() + 2  # the project's own tasks are the first
    rows, alike = _rows(prompts, asked, number)
    if not rows:
        remedy = "name two models, or a block whose prompts have answers with a `source`"
        raise TrueupError("E890", "no prompt has two answers that differ", where=name, remedy=remedy)
    new = insert(store, name, block, "work", rows)
    with store.write() as connection:
        said = {"round": number, "block": name, "models": dict(asked.models), "new": new}
        log(connection, "round", body=said)
    return Added(number=number, tasks=new, alike=alike)


def _known(store: Store, name: str) -> dict[str, _Prompt]:
    """The prompts of a block's tasks with the answers that stand in them."""
    found: dict[str, _Prompt] = {}
    with store.read() as connection:
        where = (task.c.block == name, task.c.purpose == "work")
        for body in connection.execute(sa.select(task.c.body).where(*where).order_by(task.c.id)).scalars():
            row = json.loads(body)
            prompt = found.setdefault(plain(row["prompt"]), _Prompt(row=row, answers={}))
            for completion in row["completions"]:
                if completion.get("source"):
                    prompt.answers.setdefault(completion["source"], completion)
    return found


def _prompts(block: Block, asked: Round, known: Mapping[str, _Prompt]) -> list[_Prompt]:
    if not asked.prompts:
        return list(known.values())
    rows = [to_json(group) for group in read(asked.prompts, columns=block.columns).groups]
    return [known.get(plain(row["prompt"]), _Prompt(row=row, answers={})) for row in rows]


def _answer(model: Answerer, name: str, prompts: list[_Prompt], asked: Round) -> None:
    """Nothing; the model's answers stand with the prompts."""
    from trueup.sources.sample import Decoding

    decoding = Decoding(
        temperature=asked.temperature or 1.0,
        greedy=asked.temperature == 0,
        max_new_tokens=asked.max_new_tokens,
    )
    said = [tuple(Message(Role(m["role"]), m["content"]) for m in p.row["prompt"]) for p in prompts]
    answers = model.complete(said, decoding=decoding, seed=asked.seed)
    for prompt, (answer,) in zip(prompts, answers, strict=True):
        prompt.answers[name] = {"text": answer.text.replace("\0", "\ufffd"), "source": name}


def _rows(prompts: list[_Prompt], asked: Round, number: int) -> tuple[list[dict[str, Any]], int]:
    """A row for every two answers of which one is new, and how many were left out for being alike."""
    rows, alike = [], 0
    for prompt in prompts:
        kept = {key: value for key, value in prompt.row.items() if key not in _JUDGED}
        meta = {**(prompt.row.get("meta") or {}), "round": number}
        for one, other in combinations(sorted(prompt.answers), 2):
            if not {one, other} & asked.models.keys():
                continue
            answers = [prompt.answers[one], prompt.answers[other]]
            if answers[0]["text"] == answers[1]["text"]:
                alike += 1
            else:
                rows.append({**kept, "completions": answers, "meta": meta})
    if 0 < asked.limit < len(rows):
        chosen = sorted(map(int, permutation(len(rows), asked.seed, "round", number)[: asked.limit]))
        rows = [rows[place] for place in chosen]
    return rows, alike
