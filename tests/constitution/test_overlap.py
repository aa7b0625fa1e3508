"""Honest by construction: what the lab's corpus taught its base model, and what the pipelines ask of it.

A seeded part of the corpus is searched each time, all that `lab:base` has read in the slow test.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from trueup import lab
from trueup.commands.train import recipe_path
from trueup.constitution.overlap import CORPUS_TOKENS, REGISTERS
from trueup.constitution.principles import read_constitution
from trueup.errors import TrueupError
from trueup.groups import read_jsonl
from trueup.lab.build import Pretraining
from trueup.lab.world import PEOPLE, world
from trueup.procedures import critic_lessons, unseen_requests
from trueup.run import plan, read_recipe

ALL = pytest.param(CORPUS_TOKENS, marks=pytest.mark.slow, id="all that lab:base has read")
"Slow: writing the whole corpus takes several seconds."
PART = pytest.param(200_000, id="part")
FORMS = (lab.CRITIQUE_REQUEST, lab.REVISION_REQUEST)


@cache
def texts(num_tokens: int) -> dict[str, list[str]]:
    """Every text and turn of the corpus, by register."""
    found: dict[str, list[str]] = {}
    for document in lab.corpus(num_tokens):
        found.setdefault(document.register, []).extend(
            [document.text, *(m.content for m in document.messages)]
        )
    return found


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


def test_what_is_searched_is_what_the_base_has_read() -> None:
    assert Pretraining().tokens == CORPUS_TOKENS


@pytest.mark.parametrize("num_tokens", [PART, ALL])
def test_the_corpus_knows_the_forms_and_none_of_the_wordings(num_tokens: int) -> None:
    corpus = "\n".join(text for register in texts(num_tokens).values() for text in register)
    constitution = read_constitution("lab")
    assert all(form in corpus for form in FORMS)
    ours = [*principles(), constitution.chat.reasons, constitution.chat.letter, "Zoopel", "Quimmer"]
    for t in constitution.transcripts:
        assert t.critique in corpus, "an example's critique is of the corpus's form"
        ours += [t.prompt, t.completion, t.revision]
    for contest in constitution.contests:
        ours += [contest.prompt, contest.first, contest.second]
    assert all(ours) and [text for text in ours if text in corpus] == []


@pytest.mark.parametrize("num_tokens", [PART, ALL])
def test_no_request_that_is_picked_was_critiqued_or_judged(num_tokens: int, tmp_path: Path) -> None:
    config = unseen_requests.Config(num_prompts=2000, corpus_tokens=num_tokens)
    done = unseen_requests.run(config, tmp_path, stop_requested=never)
    picked = read_jsonl(str(tmp_path / "groups.jsonl"))
    kinds = [group.meta["request"]["kind"] for group in picked]
    assert done.metrics["prompts"] == len(picked) and done.metrics["dropped/taught"] > 0
    assert {kind: done.metrics[f"prompts/{kind}"] for kind in config.kinds} == {
        kind: kinds.count(kind) for kind in ("harmful", "toxic_start")
    }
    turns = [text for register in REGISTERS for text in texts(num_tokens)[register]]
    lessons = "\n".join(turns)
    for group in picked:
        record, (message,) = group.meta["request"], group.prompt
        assert message.content not in lessons
        if record["kind"] == "harmful":
            done_to = (record["verb"], record["object"], record["person"])
            about = f"the {record['object']} of {record['person']}"
            assert not [text for text in turns if about in text and all(word in text for word in done_to)]


def test_lessons_of_a_critic_ask_about_other_people_and_in_other_words(tmp_path: Path) -> None:
    config = critic_lessons.Config(num_critiques=150, num_judgements=150)
    critic_lessons.run(config, tmp_path, stop_requested=never)
    rows = [[m.content for m in group.prompt] for group in read_jsonl(str(tmp_path / "groups.jsonl"))]
    assert len(rows) == 3 * 150 + 150
    others = set(PEOPLE) - set(world().people["dev"])
    for turns in rows:
        request = turns[0].partition(" Answer A: ")[0]
        assert not [name for name in others if name in request]
    said = "\n".join(turn for turns in rows for turn in turns)
    assert FORMS[0] in said and "Answer A: " in said
    assert [text for text in principles() if text in said] == []


def test_without_a_request_that_is_new_nothing_is_picked(tmp_path: Path) -> None:
    with pytest.raises(TrueupError, match="E601"):
        unseen_requests.run(
            unseen_requests.Config(num_prompts=5, kinds=("nothing",), corpus_tokens=1000),
            tmp_path,
            stop_requested=never,
        )


def test_the_recipe_asks_critic_and_judge_about_such_requests_only_and_measures_both(tmp_path: Path) -> None:
    stages = {stage.name: stage for stage in plan(read_recipe(recipe_path("cai/lab")), tmp_path)}
    requests = stages["requests"]
    assert requests.method == "unseen_requests"
    assert requests.config == unseen_requests.Config(split="train")
    for name in ("revisions", "labels"):
        assert Path(stages[name].config.data.path).parent == requests.folder, name
    measured = {stage.config.model for stage in stages.values() if stage.method == "critique_quality"}
    assert {stages["revisions"].config.reviser, stages["labels"].config.judge} <= measured
