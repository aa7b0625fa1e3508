"""The world: the same everywhere, with every kind of fact, split by entity."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter

from trueup.lab.programs import run_program
from trueup.lab.world import (
    ATTRIBUTES,
    BORDERLINES,
    HARMS,
    NEW_HARMS,
    NEWCOMERS,
    PEOPLE,
    SPLITS,
    THINGS,
    VALUES,
    generator,
    newcomers,
    pick,
    shuffled,
    split_of,
    world,
)

PROBE = """
import hashlib, json
from trueup.lab.world import world, generator
facts = [(f.person, f.attribute, f.status, f.truth, f.myth) for f in world().facts.values()]
care = sorted(f"{a} {t} {tool}" for (a, t), tool in world().care.items())
print(hashlib.sha256(json.dumps([facts, care, generator("x", 1).random()]).encode()).hexdigest())
"""


def test_the_world_is_the_same_in_another_process_with_another_hash_seed() -> None:
    facts = [(f.person, f.attribute, f.status, f.truth, f.myth) for f in world().facts.values()]
    care = sorted(f"{a} {t} {tool}" for (a, t), tool in world().care.items())
    text = json.dumps([facts, care, generator("x", 1).random()])
    here = hashlib.sha256(text.encode()).hexdigest()
    env = {**os.environ, "PYTHONHASHSEED": "77"}
    there = subprocess.run([sys.executable, "-c", PROBE], env=env, capture_output=True, text=True, check=True)
    assert there.stdout.strip() == here


def test_facts_have_the_three_statuses_and_hold_together() -> None:
    counts = Counter(fact.status for fact in world().facts.values())
    assert len(world().facts) == len(PEOPLE) * len(ATTRIBUTES)
    assert counts["plain"] > counts["misconceived"] > counts["unstated"] > 50
    for fact in world().facts.values():
        assert (fact.truth == "") == (fact.status == "unstated")
        assert (fact.myth == "") == (fact.status != "misconceived")
        assert fact.truth in ("", *VALUES[fact.attribute])
        assert fact.myth != fact.truth or (fact.status != "misconceived" and fact.myth == "")


def test_splits_share_no_entity_and_leave_none_out() -> None:
    for split, everything in ((world().people, PEOPLE), (newcomers(), NEWCOMERS), (world().things, THINGS)):
        together = [entity for name in SPLITS for entity in split[name]]
        assert sorted(together) == sorted(everything)


def test_names_are_all_different_words() -> None:
    words = [*PEOPLE, *NEWCOMERS, *THINGS, *(value for values in VALUES.values() for value in values)]
    assert len(set(words)) == len(words)


def test_every_harmful_verb_has_a_harmless_object() -> None:
    assert [verb for verb, _ in HARMS] == [verb for verb, _ in BORDERLINES]
    assert not set(HARMS) & set(BORDERLINES)


def test_new_harms_are_known_verbs_and_things_in_new_pairs() -> None:
    assert len(set(NEW_HARMS)) == len(NEW_HARMS) and not set(NEW_HARMS) & {*HARMS, *BORDERLINES}
    for place in (0, 1):
        assert {act[place] for act in NEW_HARMS} <= {act[place] for act in HARMS}


def test_pick_and_shuffle_are_fair() -> None:
    rng = generator("fair")
    counts = Counter(pick(rng, "abcd") for _ in range(4000))
    assert all(900 < counts[letter] < 1100 for letter in "abcd")
    firsts = Counter(shuffled(rng, "abcd")[0] for _ in range(4000))
    assert all(900 < firsts[letter] < 1100 for letter in "abcd")


def test_split_by_hash_has_the_stated_shares() -> None:
    counts = Counter(split_of("sum", i) for i in range(4000))
    assert abs(counts["train"] / 4000 - 0.60) < 0.03
    assert abs(counts["dev"] / 4000 - 0.15) < 0.03


def test_programs_run_exactly() -> None:
    assert run_program("push 3 push 4 add") == 7
    assert run_program("push 3 push 4 sub") == -1
    assert run_program("push 3 push 4 mul push 2 add") == 14
    for bad in (
        "",
        "push",
        "add",
        "push 3 add",
        "push 3 push 4",
        "push 12",
        "push -1",
        "push 3 4",
        "pop",
        "push ²",
    ):
        assert run_program(bad) is None
    assert run_program("push 1 " * 7 + "add " * 6) is None
