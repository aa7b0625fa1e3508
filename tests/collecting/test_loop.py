"""Rounds of collecting, a reward model and PPO, by simulated annotators through HTTP: gold rises."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from collecting.served import Browser, served, write_project
from trueup import fit
from trueup.answerers.open import open_local
from trueup.collecting.open import Opened
from trueup.collecting.rounds import Round, add_round
from trueup.collecting.schema import task
from trueup.engine.groups import Completion, Group, write_jsonl
from trueup.lab.datasets import prompts
from trueup.lab.gold import lab_gold
from trueup.lab.graders import grade
from trueup.sources.sample import Decoding
from trueup.statistics.estimates import paired_gain

SFT_STEPS, PROMPTS, EACH, LATER, PPO_STEPS, BATCH, TEST = 60, 72, 4, 144, 14, 64, 160
"Steps, prompts, samples of each, comparisons of the second round, and prompts that are measured."
TOKENS = 24
ROUND = {"temperature": 1.0, "max_new_tokens": TOKENS}


def sampled(folder: Path, groups: Sequence[Group], k: int, name: str, seed: int = 0) -> list[Group]:
    """The groups with so many answers of a model."""
    decoding = Decoding(temperature=1.0, max_new_tokens=TOKENS)
    said = open_local(str(folder)).complete([g.prompt for g in groups], decoding=decoding, k=k, seed=seed)
    return [
        g.with_completions([Completion(text=a.text, source=name) for a in answers])
        for g, answers in zip(groups, said, strict=True)
    ]


def gold(folder: Path, groups: Sequence[Group]) -> np.ndarray:
    """The gold reward of a model's answers, [num_prompts]."""
    return np.asarray(lab_gold(sampled(folder, groups, 2, "measured", seed=9))).mean(axis=1)


def num_tasks(opened: Opened) -> int:
    """How many tasks a project has."""
    with opened.store.read() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(task)).scalar_one()


def votes(address: str, opened: Opened, requests: dict[str, Any], noise: float = 0.05) -> int:
    """How many comparisons three people gave, who see texts alone and mostly prefer what is worth more."""
    chance, given = random.Random(0), 0
    people = [Browser(address, opened, name) for name in ("ann", "bob", "cho")]
    for person in people:
        person.get("/task")
    while any(person.answers() for person in people):
        for person in [one for one in people if one.answers()]:
            left, right = person.answers()
            asked = next(text for text in requests if f">{text}</div>" in person.page)
            worth = [grade(requests[asked], text).gold for text in (left, right)]
            better = int(worth[1] > worth[0]) if chance.random() > noise else chance.randrange(2)
            person.send({"choice": "27"[better], "action": "save"})
            given += 1
    return given


@pytest.mark.slow  # an SFT, two reward models, two PPOs, 500 comparisons: minutes
def test_two_rounds_of_collecting_and_training_raise_gold(tmp_path: Path) -> None:
    first = prompts("train", PROMPTS)
    measured, requests = prompts("test", TEST), {g.prompt[-1].content: g.meta["request"] for g in first}
    sft = fit(
        "sft", model="lab:base", data={"path": "lab:demonstrations", "limit": 16 * SFT_STEPS}, world="lab",
        out=tmp_path / "sft", loop={"steps": SFT_STEPS, "batch": 16}, update={"lr": 1e-3},
    )  # fmt: skip
    policy, found = Path(sft.output), []
    write_jsonl(str(tmp_path / "pairs.jsonl"), sampled(policy, first, EACH, "sft"))
    project = write_project(tmp_path, "  p: {kind: compare, data: pairs.jsonl}")
    found.append(gold(policy, measured))
    with served(project) as (address, opened):
        waiting = num_tasks(opened)
        for turn in (1, 2):
            assert votes(address, opened, requests) == waiting
            reward = fit(
                "reward_model", model=str(sft.output), world="lab", out=tmp_path / f"reward-{turn}",
                data={"path": f"collect:{opened.store.place}", "held_out": 0.1},
                loop={"epochs": 2, "batch": 16}, update={"lr": 1e-3},
            )  # fmt: skip
            trained = fit(
                "ppo", model=str(policy), judge=str(reward.output), critic=str(reward.output), world="lab",
                data={"path": "lab:prompts", "limit": 600, "held_out": 0}, out=tmp_path / f"ppo-{turn}",
                decoding={"max_new_tokens": TOKENS}, loop={"steps": PPO_STEPS, "batch": BATCH},
                update={"lr": 3e-4},
            )  # fmt: skip
            policy = Path(trained.output)
            found.append(gold(policy, measured))
            if turn == 1:
                asked = Round(models={"ppo-1": str(policy)}, limit=LATER, **ROUND)
                waiting = add_round(opened.store, opened.project, "p", asked).tasks
                assert waiting > PROMPTS // 3  # where both models say the same there is nothing to compare
            print("gold", [round(float(one.mean()), 3) for one in found], flush=True)
    start, once, twice = found
    assert paired_gain(once, start).low > 0 and paired_gain(twice, start).low > 0
    assert twice.mean() > once.mean()
