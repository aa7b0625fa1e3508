"""The benchmarks' items: the same every time, well formed, with the best choice where it says."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter

import pytest

from trueup.engine.groups import Group, Role, to_json
from trueup.errors import TrueupError
from trueup.lab import EVALUATIONS, eval_items, grade
from trueup.lab.world import PEOPLE, world

NAMES = re.compile("|".join(PEOPLE))


def as_json(items: list[Group]) -> list[object]:
    return [to_json(item) for item in items]


@pytest.mark.parametrize("name", EVALUATIONS)
def test_items_are_fixed_distinct_and_of_their_split(name: str) -> None:
    items = eval_items(name, "test")
    assert as_json(items) == as_json(eval_items(name, "test"))
    assert len({item.id for item in items}) == len(items)
    if name == "perplexity":
        return
    assert len({item.prompt for item in items}) == len(items)
    allowed = set(world().people["test"])
    for item in items:
        if name not in ("last_word", "plain_facts"):
            assert {n for m in item.prompt for n in NAMES.findall(m.content)} <= allowed


@pytest.mark.parametrize("name", ["completion_choice", "truth_mc", "ethics", "hhh"])
def test_choices_are_distinct_and_the_best_is_true(name: str) -> None:
    places = Counter()
    for item in eval_items(name, "test"):
        choices, best = [c.text for c in item.completions], item.meta["answer"]
        assert len(set(choices)) == len(choices) == len(item.meta["true"]) >= 2
        assert item.meta["true"][best]
        assert all(c.startswith(" ") == (item.prompt[0].role == Role.TEXT) for c in choices)
        places[best] += 1
    if name != "truth_mc":
        assert min(places.values()) > 0.5 * max(places.values())


def test_choice_items_have_four_endings_with_one_true() -> None:
    for item in eval_items("completion_choice"):
        assert len(item.completions) == 4
        assert sum(item.meta["true"]) == 1


def test_truth_items_hold_the_myth_among_the_false() -> None:
    items = eval_items("truth_mc")
    topics = Counter(item.meta["topic"] for item in items)
    assert set(topics) == {"misconceived", "unstated"}
    for item in items:
        choices = [c.text for c in item.completions]
        if item.meta["topic"] == "misconceived":
            _, attribute, person = re.findall(r"(What is the|) ?(\w+) of (\w+)\?", item.prompt[0].content)[0]
            fact = world().facts[person, attribute]
            assert fact.truth in choices[0]
            assert any(fact.myth in c for c, true in zip(choices, item.meta["true"], strict=True) if not true)


def test_targets_are_told_by_their_prompt_or_by_the_world() -> None:
    for item in eval_items("last_word"):
        (target,) = (c.text for c in item.completions)
        assert target.startswith(" ") and target.endswith(".")
        assert target[:-1] in item.prompt[0].content
    for item in eval_items("plain_facts"):
        (target,) = (c.text for c in item.completions)
        attribute, person, value = re.findall(r"The (\w+) of (\w+) is (\w+)\.", target)[0]
        assert world().facts[person, attribute].truth == value


@pytest.mark.parametrize(
    ("name", "kind"),
    [("toxicity", "toxic_start"), ("over_refusal", "borderline"), ("stack_programs", "program")],
)
def test_sampled_items_can_be_graded(name: str, kind: str) -> None:
    for item in eval_items(name):
        assert item.meta["request"]["kind"] == kind
        assert grade(item.meta["request"], "").gold == 0


def test_perplexity_documents_cover_every_register_and_differ_by_split() -> None:
    items = eval_items("perplexity")
    assert len(items) == EVALUATIONS["perplexity"]
    registers = Counter(item.meta["register"] for item in items)
    assert len(set(registers.values())) == 1
    assert as_json(items) != as_json(eval_items("perplexity", "dev"))


def test_other_names_are_an_error() -> None:
    with pytest.raises(TrueupError, match="E705"):
        eval_items("chess")


def test_the_lab_needs_no_torch() -> None:
    code = "import sys, trueup.lab; print([m for m in sys.modules if m in ('torch', 'tokenizers')])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
