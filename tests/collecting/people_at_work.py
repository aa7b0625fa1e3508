"""Annotators that work on a store as a crowd does: they leave, come back, send twice, take back."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

from trueup.collecting.people import People
from trueup.collecting.project import Block, Project, fill
from trueup.collecting.store import Store
from trueup.collecting.tasks import Desk, Given, Rules


def pairs_file(folder: Path, num: int, name: str = "pairs.jsonl") -> Path:
    """A file of prompts with two models' answers each."""
    path = folder / name
    rows = [
        {
            "prompt": [{"role": "user", "content": f"what is {i}?"}],
            "completions": [{"text": f"it is {i}", "source": "tuned"}, {"text": f"no {i}", "source": "base"}],
            "id": f"q{i}",
        }
        for i in range(num)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def filled(folder: Path, num: int, overlap: int = 1, place: str = "") -> Store:
    """A store with so many pairs to compare."""
    store = Store(place or str(folder / "project.db"))
    block = Block(kind="compare", data=str(pairs_file(folder, num)), overlap=overlap)
    fill(store, Project(name="Pairs", tasks={"pairs": block}))
    return store


def crowd(store: Store, size: int) -> list[int]:
    """The numbers of so many people who were invited."""
    people = People(store=store)
    found = [people.of_token(people.invite(f"person {n}")) for n in range(size)]
    return [one.id for one in found if one is not None]


def works(store: Store, who: int, clock: Callable[[], float], leaves: float = 0.2) -> int:
    """How many answers of a person count who does all that is given to them, more or less reliably."""
    desk, kept = Desk(store=store, rules=Rules(lease_seconds=60), clock=clock), 0
    chance = random.Random(f"{who} {clock()}")
    while (task := desk.assign(who)) is not None:
        if chance.random() < leaves:
            return kept  # without a word; the lease runs out
        body = {"a": 0, "b": 1, "choice": chance.choice("ab"), "strength": 2}
        given = Given(task=task.id, key=f"{who}-{task.id}-{kept}-{chance.random()}", body=body)
        fates = [desk.submit(who, given) for _ in range(chance.choice((1, 1, 2)))]
        kept += fates[0] == "kept"
        assert set(fates[1:]) <= {"same"}
        if chance.random() < 0.05 and desk.undo(who) is not None:
            kept -= 1
    return kept
