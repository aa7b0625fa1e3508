"""The real world's data: the same every time, no split in another, answers that deserve what they get."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from itertools import combinations

import pytest

from trueup.engine.groups import Group, to_json
from trueup.errors import TrueupError
from trueup.real.constraints import CONSTRAINTS, fit_together
from trueup.real.judges import grade
from trueup.real.labelling import label
from trueup.real.material import SPLITS, dialogues, facts, topics
from trueup.real.reading import FUNCTION, lowered, sentences
from trueup.worlds import open_world

REAL = open_world("real")


def groups(name: str, num: int, split: str = "train", seed: int = 0) -> list[Group]:
    found = REAL.data(name, split=split, limit=num, seed=seed)
    assert not isinstance(found, str)
    return found


MANY = 800


@cache
def many(split: str) -> list[Group]:
    return groups("prompts", MANY, split)


def texts(split: str) -> set[str]:
    return {group.prompt[-1].content for group in many(split)}


def test_prompts_are_the_same_on_every_machine() -> None:
    rows = json.dumps([to_json(group) for group in groups("prompts", 50, "test")], ensure_ascii=False)
    assert hashlib.sha256(rows.encode()).hexdigest()[:16] == "6071c7f20b86d09c"
    ids = [group.id for group in groups("prompts", 50, "test")]
    assert [group.id for group in groups("prompts", 20, "test")] == ids[:20]
    assert [group.id for group in groups("prompts", 20, "test", seed=1)] != ids[:20]


def test_no_prompt_and_nothing_asked_about_is_in_two_splits() -> None:
    found = {split: texts(split) for split in SPLITS}
    about = {split: {g.meta["request"]["about"] for g in many(split)} for split in SPLITS}
    for one, other in combinations(SPLITS, 2):
        assert not found[one] & found[other]
        assert not about[one] & about[other]
    assert all(len(prompts) == MANY for prompts in found.values())


def test_there_is_enough_to_ask() -> None:
    assert sum(len(facts(split)) for split in SPLITS) >= 250
    assert len({topic.name for split in SPLITS for topic in topics(split)}) == 30
    for split in SPLITS:
        kinds = {group.meta["request"]["kind"] for group in many(split)}
        assert kinds == {"fact", "sum", "advice", "thing", "harmful", "unknowable", "benign"}
        asked = {c["kind"] for group in many(split) for c in group.meta["request"]["constraints"]}
        assert asked == set(CONSTRAINTS)


def test_what_is_written_about_is_plain_english() -> None:
    """Sentences of four words or more without commas, digits or quotes: answers are made of them."""
    said = [s for split in SPLITS for t in (*topics(split), *dialogues(split)) for s in t.say]
    for sentence in said:
        assert sentences(sentence) == [sentence], sentence
        assert sentence[-1] == "." and sentence[0].isupper(), sentence
        assert len(lowered(sentence)) >= 4, sentence
        assert not set(sentence) & set(',"0123456789'), sentence
        assert FUNCTION & set(lowered(sentence)), sentence
    assert len(set(said)) == len(said)


@pytest.mark.parametrize("seed", [0, 1])
def test_every_demonstration_does_all_it_is_told(seed: int) -> None:
    found = groups("demonstrations", 300, seed=seed)
    lost = [
        (g.prompt[-1].content, g.completions[0].text, grade(g, g.completions[0].text)["reasons"])
        for g in found
        if grade(g, g.completions[0].text)["gold"] < 1
    ]
    assert not lost and {g.prompt[-1].content for g in found} & texts("test") == set()


@pytest.mark.parametrize("seed", [0, 1])
def test_every_chosen_answer_is_better_than_the_rejected(seed: int) -> None:
    orders, reasons = set(), set()
    for group in groups("comparisons", 300, seed=seed):
        (pair,) = group.pairs()
        chosen, rejected = (grade(group, group.completions[i].text) for i in (pair.chosen, pair.rejected))
        assert chosen["gold"] == 1 > rejected["gold"], group
        orders.add(pair.chosen)
        reasons |= set(rejected["reasons"])
    assert orders == {0, 1} and reasons == {"checked", "correct"}


def test_constraints_that_clash_are_not_asked_together() -> None:
    for group in many("train"):
        kinds = tuple(asked["kind"] for asked in group.meta["request"]["constraints"])
        assert fit_together(kinds) and len(set(kinds)) == len(kinds)
    assert not fit_together(("json", "bullets")) and not fit_together(("lower", "upper"))
    assert fit_together(("bullets", "lower")) and fit_together(("no_commas", "word"))


def test_the_labeler_follows_the_rules() -> None:
    group = groups("demonstrations", 1)[0]
    right = group.completions[0]
    said = group.with_completions([right, right, type(right)(text="")])
    (ranked,) = label([said], kind="ranking")
    assert ranked.rankings[0].tiers == ((0, 1), (2,))
    (compared,) = label([said], num_comparisons=3)
    assert {(p.chosen, p.rejected) for p in compared.pairs()} == {(0, 2), (1, 2)}
    assert label([group.with_completions([right, right])])[0].pairs() == ()
    with pytest.raises(TrueupError, match="E704 kind — no kind of label 'scores'"):
        label([said], kind="scores")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (
            lambda: REAL.data("prompt", split="test", limit=1, seed=0),
            "no data 'prompt' — did you mean 'prompts'",
        ),
        (
            lambda: REAL.data("prompts", split="tests", limit=1, seed=0),
            "E606 split — the world `real` has no split",
        ),
        (lambda: REAL.judge("gold"), "no judge 'gold' — it has truth, checked, correct"),
        (lambda: REAL.labeler("people"), "no labeler 'people' — it has rules"),
        (lambda: REAL.sit(("lambada",), split="test", limit=1), "no exam 'lambada' — it has multiple_choice"),
        (lambda: REAL.model("bass"), "no model 'bass' — did you mean 'base'"),
        (lambda: REAL.text("constitution"), "no text 'constitution' — it has none"),
        (lambda: REAL.dialogues("hhh", 1), "no dialogues 'hhh' — it has none"),
    ],
)
def test_what_the_world_does_not_have(ask, said: str) -> None:
    with pytest.raises(TrueupError) as caught:
        ask()
    assert said in str(caught.value)
