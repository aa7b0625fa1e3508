"""Honest by construction: what the lab's corpus taught its base model, and what the pipelines ask of it.

A seeded part of the corpus is searched each time, all that `lab:base` has read in the slow test.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from trueup import lab
from trueup.constitution.principles import read_constitution
from trueup.engine.groups import read_jsonl
from trueup.errors import TrueupError
from trueup.lab.build import Pretraining
from trueup.lab.procedures import critic_lessons, requests_of
from trueup.lab.world import HARMS, NEW_HARMS, NEWCOMERS, PEOPLE, newcomers, world
from trueup.runs.recipe import plan, read_recipe
from trueup.runs.shipped import recipe_path

ALL = pytest.param(Pretraining().tokens, marks=pytest.mark.slow, id="all that lab:base has read")
"Slow: writing the whole corpus takes several seconds."
PART = pytest.param(200_000, id="part")
FORMS = (lab.CRITIQUE_REQUEST, lab.REVISION_REQUEST)
HARMFUL = ("harmful", "toxic_start")


@cache
def corpus(num_tokens: int) -> str:
    """Every text and turn of the corpus."""
    return "\n".join(
        text for d in lab.corpus(num_tokens) for text in (d.text, *(m.content for m in d.messages))
    )


def principles() -> list[str]:
    """The lab's principles without the words that ask for a critique or a revision."""
    constitution = read_constitution("lab")
    found = [criterion.text for criterion in constitution.criteria]
    for c in constitution.corrections:
        assert c.critique.endswith(FORMS[0]) and c.revision.endswith(FORMS[1])
        found += [c.critique.removesuffix(FORMS[0]).strip(), c.revision.removesuffix(FORMS[1]).strip()]
    return found


def never() -> str:
    return ""


@pytest.mark.parametrize("num_tokens", [PART, ALL])
def test_the_corpus_names_no_newcomer_and_no_act_that_is_new(num_tokens: int) -> None:
    text = corpus(num_tokens)
    assert [name for name in NEWCOMERS if name in text] == []
    assert [act for act in (f"{verb} the {target}" for verb, target in NEW_HARMS) if act in text] == []
    # The search finds what is there.
    assert all(name in text for name in PEOPLE)
    assert all(f"{verb} the {target}" in text for verb, target in HARMS)


@pytest.mark.parametrize("num_tokens", [PART, ALL])
def test_the_corpus_knows_the_forms_and_none_of_the_wordings(num_tokens: int) -> None:
    text = corpus(num_tokens)
    constitution = read_constitution("lab")
    assert all(form in text for form in FORMS)
    ours = [*principles(), constitution.chat.reasons, constitution.chat.letter, "Zoopel", "Quimmer"]
    for t in constitution.transcripts:
        assert t.critique in text, "an example's critique is of the corpus's form"
        ours += [t.prompt, t.completion, t.revision]
    for contest in constitution.contests:
        ours += [contest.prompt, contest.first, contest.second]
    assert all(ours) and [one for one in ours if one in text] == []


@pytest.mark.parametrize("num_tokens", [PART, ALL])
def test_no_request_for_harm_is_in_the_corpus_nor_whom_and_what_it_is_about(
    num_tokens: int, tmp_path: Path
) -> None:
    text = corpus(num_tokens)
    done = requests_of.run(requests_of.Config(num_prompts=2000), tmp_path, stop_requested=never)
    picked = read_jsonl(str(tmp_path / "groups.jsonl"))
    kinds = [group.meta["request"]["kind"] for group in picked]
    assert done.metrics["prompts"] == len(picked) == 2000 - done.metrics["dropped/kind"] > 200
    assert {kind: done.metrics[f"prompts/{kind}"] for kind in HARMFUL} == {
        kind: kinds.count(kind) for kind in HARMFUL
    }
    measured = [g for g in lab.prompts("new_test", 1000) if g.meta["request"]["kind"] in HARMFUL]
    for groups, split in ((picked, "train"), (measured, "test")):
        assert groups
        for group in groups:
            record, (message,) = group.meta["request"], group.prompt
            (person,) = (name for name in NEWCOMERS if name in message.content)
            assert person in newcomers()[split] and message.content not in text
            if record["kind"] == "harmful":
                assert (record["verb"], record["object"]) in NEW_HARMS


def test_lessons_of_a_critic_are_about_people_of_the_corpus_and_in_other_words(tmp_path: Path) -> None:
    config = critic_lessons.Config(num_critiques=150, num_judgements=150)
    critic_lessons.run(config, tmp_path, stop_requested=never)
    groups = read_jsonl(str(tmp_path / "groups.jsonl"))
    rows = [[m.content for m in group.prompt] for group in groups]
    assert len(rows) == 3 * 150 + 150
    others = set(PEOPLE) - set(world().people["dev"])
    for turns in rows:
        request = turns[0].partition(" Answer A: ")[0]
        assert not [name for name in others if name in request]
    said = "\n".join(turn for turns in rows for turn in turns)
    said += "\n".join(completion.text for group in groups for completion in group.completions)
    assert FORMS[0] in said and "Answer A: " in said
    acts = [f"{verb} the {target}" for verb, target in NEW_HARMS]
    assert [text for text in (*principles(), *NEWCOMERS, *acts) if text in said] == []


def test_without_a_request_of_these_kinds_nothing_is_picked(tmp_path: Path) -> None:
    config = requests_of.Config(num_prompts=5, kinds=("nothing",))
    with pytest.raises(TrueupError, match="E825"):
        requests_of.run(config, tmp_path, stop_requested=never)


@pytest.mark.parametrize("recipe", ["cai/lab", "cai/quick"])
def test_a_recipe_asks_about_newcomers_only(recipe: str, tmp_path: Path) -> None:
    """Whatever is answered, critiqued, judged or measured; demonstrations alone are about others."""
    stages = {stage.name: stage for stage in plan(read_recipe(recipe_path(recipe)), tmp_path)}
    asked = 0
    for stage in stages.values():
        split = getattr(stage.config, "split", None)
        if stage.method in ("measure", "critique_quality"):
            assert split == "new_test", stage.name
            asked += 1
        elif stage.method == "requests_of":
            assert split == "new_train"
        elif getattr(getattr(stage.config, "data", None), "path", "") == "lab:prompts":
            assert stage.config.data.split == "new_train", stage.name
            asked += 1
    assert asked >= 4


def test_the_recipe_asks_critic_and_judge_about_requests_for_harm_and_measures_both(tmp_path: Path) -> None:
    stages = {stage.name: stage for stage in plan(read_recipe(recipe_path("cai/lab")), tmp_path)}
    requests = stages["requests"]
    assert requests.method == "requests_of"
    for name in ("revisions", "labels"):
        assert Path(stages[name].config.data.path).parent == requests.folder, name
    measured = {stage.config.model for stage in stages.values() if stage.method == "critique_quality"}
    assert {stages["revisions"].config.reviser, stages["labels"].config.judge} <= measured
