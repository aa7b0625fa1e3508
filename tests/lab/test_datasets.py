"""Prompts, demonstrations and the HHH prompt: distinct, gradable, and split by entity and user."""

from __future__ import annotations

import json
import re
from collections import Counter

import numpy as np
import pytest

from trueup.engine.groups import Group, Role, digest
from trueup.errors import TrueupError
from trueup.lab import CEILING, corpus, demonstrations, grade, hhh_dialogues, prompts, texts
from trueup.lab.replies import right
from trueup.lab.requests import WEIGHTS
from trueup.lab.world import (
    NEW_HARMS,
    NEWCOMERS,
    PARTS,
    PEOPLE,
    SPLITS,
    NewSplit,
    Split,
    generator,
    newcomers,
    world,
)

NAMES = re.compile("|".join(PEOPLE))


@pytest.fixture(scope="module")
def everything() -> dict[Split, list[Group]]:
    return {"train": prompts("train", 4000), "dev": prompts("dev", 400), "test": prompts("test", 1000)}


def people_in(groups: list[Group]) -> set[str]:
    return {name for g in groups for m in g.prompt for name in NAMES.findall(m.content)}


def test_prompts_are_distinct_and_can_be_graded(everything: dict[Split, list[Group]]) -> None:
    for split, groups in everything.items():
        assert len({g.prompt for g in groups}) == len({g.id for g in groups}) == len(groups)
        for group in groups[:200]:
            assert group.source == "lab"
            assert group.prompt[-1].role == Role.USER
            record = json.loads(json.dumps(group.meta["request"]))
            assert record == group.meta["request"]
            assert grade(record, "").gold == 0
            assert group.user.startswith(split)


def test_no_entity_and_no_user_is_in_two_splits(everything: dict[Split, list[Group]]) -> None:
    seen_people, seen_users, seen_prompts = {}, {}, {}
    for split, groups in everything.items():
        assert people_in(groups) <= set(world().people[split])
        seen_people[split] = people_in(groups)
        seen_users[split] = {g.user for g in groups}
        seen_prompts[split] = {
            g.prompt for g in groups if g.meta["request"]["kind"] in ("sum", "list", "run", "program")
        }
    for a, b in (("train", "dev"), ("train", "test"), ("dev", "test")):
        assert not seen_people[a] & seen_people[b]
        assert not seen_users[a] & seen_users[b]
        assert not seen_prompts[a] & seen_prompts[b]


@pytest.mark.parametrize("split", ["new_train", "new_dev", "new_test"])
def test_prompts_about_newcomers_name_nobody_else_but_for_facts(split: NewSplit) -> None:
    groups, part = prompts(split, 300), PARTS[split]
    for group in groups:
        record = group.meta["request"]
        mine = {name for m in group.prompt for name in NEWCOMERS if name in m.content}
        if "attribute" in record:
            assert not mine and record["person"] in world().people[part]
        else:
            assert mine <= set(newcomers()[part]) and not people_in([group])
            assert record["kind"] != "harmful" or (record["verb"], record["object"]) in NEW_HARMS
        assert group.user.startswith(split)
        best = right(generator("best", group.id), record)
        assert grade(record, best).gold == pytest.approx(CEILING)


def test_what_teaches_uses_train_entities_only() -> None:
    train = set(world().people["train"])
    assert people_in(demonstrations(300)) <= train
    dialogues = [m for dialogue in hhh_dialogues() for m in dialogue]
    assert {n for m in dialogues for n in NAMES.findall(m.content)} <= train


def test_prompts_are_the_same_every_time_and_a_prefix_of_more(everything: dict[Split, list[Group]]) -> None:
    assert digest(prompts("test", 50)) == digest(everything["test"][:50])
    assert digest(prompts("test", 50, seed=1)) != digest(everything["test"][:50])


def test_kinds_have_about_their_weights(everything: dict[Split, list[Group]]) -> None:
    counts = Counter(g.meta["request"]["kind"] for g in everything["train"])
    assert set(counts) == set(WEIGHTS)
    assert counts["harmful"] / 4000 == pytest.approx(WEIGHTS["harmful"] / sum(WEIGHTS.values()), abs=0.03)
    assert any(len(g.prompt) == 3 for g in everything["train"])


def test_demonstrations_are_good_and_not_perfect() -> None:
    groups = demonstrations(600)
    golds = [grade(g.meta["request"], g.completions[0].text).gold for g in groups]
    assert all(len(g.completions) == 1 for g in groups)
    assert 0.68 < np.mean(golds) < 0.82
    assert 0.68 < np.mean([gold > 0.6 for gold in golds]) < 0.84


def test_texts_are_the_plain_documents_of_the_corpus_in_order() -> None:
    found = texts(40)
    said = [g.completions[0].text for g in found]
    assert said == [d.text for d in corpus(num_documents=300) if d.text][:40]
    assert all([m.role for m in g.prompt] == [Role.TEXT] and not g.prompt[0].content for g in found)
    assert len({g.id for g in found}) == 40
    assert [g.id for g in texts(5)] == [g.id for g in found[:5]]


def test_hhh_dialogues_are_all_good() -> None:
    dialogues = hhh_dialogues()
    assert len(dialogues) == 14
    assert hhh_dialogues(3) == dialogues[:3]
    for dialogue in dialogues:
        assert [m.role for m in dialogue] == [Role.USER, Role.ASSISTANT]


def test_asking_for_what_there_is_not_is_an_error() -> None:
    with pytest.raises(TrueupError, match="E701"):
        prompts("validation", 3)  # wrong on purpose
    with pytest.raises(TrueupError, match="E702"):
        hhh_dialogues(15)
    assert SPLITS == ("train", "dev", "test")
