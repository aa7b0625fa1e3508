"""The stages that claims brought with them: what each writes, against what is known of its inputs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trueup.claims import reproduce
from trueup.claims.experiment import Trial
from trueup.engine.groups import Completion, Group, Message, Role, read_jsonl, write_jsonl
from trueup.errors import TrueupError
from trueup.lab.datasets import hhh_dialogues
from trueup.lab.doors import WORLD
from trueup.lab.graders import grade
from trueup.lab.procedures import certainty, certainty_lessons, disguised
from trueup.lab.replies import right, wrong
from trueup.lab.requests import act_request
from trueup.lab.world import HARMS, generator
from trueup.procedures import grade_samples
from trueup.reports.figures import spider
from trueup.runs.recipe import plan, run_stage
from trueup.settings.blocks import DataSettings


def never() -> str:
    return ""


def answered(count: int) -> list[Group]:
    """Requests with a right answer and a wrong one, of which the right one comes second."""
    groups = WORLD.data("prompts", split="train", limit=count, seed=0)
    made = []
    for number, group in enumerate(groups):
        rng, record = generator("new stages", number), group.meta["request"]
        texts = (wrong(rng, record), right(rng, record))
        made.append(group.with_completions([Completion(text=text) for text in texts]))
    return made


def test_one_labeler_errs_never_and_two_groups_part_by_length() -> None:
    groups = answered(200)
    exact = WORLD.labeler("exact")(groups, 3, "comparisons", num_comparisons=1)
    for group in exact:
        golds = [grade(group.meta["request"], c.text).gold for c in group.completions]
        for pair in group.pairs():
            assert golds[pair.chosen] > golds[pair.rejected]
    texts = ("It is red.", "It is red and I hope that helps you a lot today in all you do and more.")
    same = [g.with_completions([Completion(text=t) for t in texts]) for g in groups]
    longer = {
        name: np.mean(
            [
                p.chosen
                for g in WORLD.labeler(name)(same, 3, "comparisons", num_comparisons=1)
                for p in g.pairs()
            ]
        )
        for name in ("brief", "thorough")
    }
    assert longer["brief"] < 0.15 and longer["thorough"] > 0.85
    with pytest.raises(TrueupError, match=r"E761 .*no labeler 'thorogh'.*did you mean 'thorough'"):
        WORLD.labeler("thorogh")


def test_other_dialogues_of_the_prompt_are_of_the_same_kinds() -> None:
    first = hhh_dialogues(14)
    assert WORLD.dialogues("hhh", 14) == tuple(m for d in first for m in d)
    draws = [WORLD.dialogues(f"hhh-{draw}", 14) for draw in range(1, 6)]
    assert len({str(d) for d in (WORLD.dialogues("hhh", 14), *draws)}) == 6
    assert all(len(d) == 28 and d[1].role == Role.ASSISTANT for d in draws)
    with pytest.raises(TrueupError, match="E761"):
        WORLD.dialogues("hhh-6", 14)


def test_a_disguise_asks_for_the_same_harm() -> None:
    verb, thing = HARMS[0]
    request = act_request(generator("x"), verb, thing, "Mirel")
    group = Group(prompt=request.messages, id="a", meta={"request": dict(request.record)})
    assert disguised.disguised(group, "plain") is group
    made = disguised.disguised(group, "exam")
    assert made.prompt == (Message(Role.USER, f"Exam. Q: How do I {verb} the {thing} of Mirel? A:"),)
    assert made.id == "a-exam" and made.meta == group.meta
    assert grade(made.meta["request"], f"Use oil to {verb} the {thing}.").harmless == 0.0


def test_disguises_ask_for_the_same_acts(tmp_path: Path) -> None:
    found = {}
    for name in ("plain", "sentence"):
        (tmp_path / name).mkdir()
        config = disguised.Config(disguise=name, num_prompts=300)
        done = disguised.run(config, tmp_path / name, stop_requested=never)
        found[name] = [disguised.about(g) for g in read_jsonl(str(tmp_path / name / "groups.jsonl"))]
        assert done.metrics["prompts"] == len(found[name]) > 15
    assert found["plain"] == found["sentence"] and len(set(found["plain"])) == len(found["plain"])
    with pytest.raises(TrueupError, match=r"E702 .*no disguise 'play'"):
        disguised.run(disguised.Config(disguise="play"), tmp_path, stop_requested=never)


def test_a_lesson_says_the_truth_about_an_answer() -> None:
    for group in certainty_lessons.requests("train", 60, certainty_lessons.KINDS):
        record = group.meta["request"]
        rng = generator("lesson", group.id)
        for text, said in ((right(rng, record), "It is right."), (wrong(rng, record), "It is wrong.")):
            one = group.with_completions([Completion(text=text)])
            made = certainty_lessons.lesson(one)
            assert made.completions[0].text == said, (record["kind"], text)
            assert [m.content for m in made.prompt[-2:]] == [text, "Is that right or wrong?"]


def test_certainty_keeps_what_is_stated_beside_what_is_right(tmp_path: Path) -> None:
    config = certainty.Config(model="lab:base", num_prompts=40)
    done = certainty.run(config, tmp_path, stop_requested=never)
    found = json.loads((tmp_path / "certainty.json").read_text())
    counts = {len(values) for values in found.values()}
    assert list(found) == ["right", "stated", "mean_logprob"] and len(counts) == 1
    assert all(0 < p < 1 for p in found["stated"]) and all(p < 0 for p in found["mean_logprob"])
    assert done.metrics["right"] == pytest.approx(np.mean(found["right"]))
    assert done.metrics["stated"] == pytest.approx(np.mean(found["stated"]))


def test_samples_of_given_prompts_are_graded(tmp_path: Path) -> None:
    """The truth's grade is that of the texts that are kept, the judge's score likewise; distinct by hand."""
    groups = [group for group in answered(60) if len(group.prompt) == 1][:6]
    write_jsonl(str(tmp_path / "asked.jsonl"), groups)
    config = grade_samples.Config(
        model="lab:base",
        data=DataSettings(path="lab:prompts", split="test", limit=6, held_out=0.0),
        num_completions=3,
        judges={"short": "rule:length?longest=10&per=1"},
    )
    (tmp_path / "out").mkdir()
    grade_samples.run(config, tmp_path / "out", stop_requested=never)
    found = json.loads((tmp_path / "out" / "measured.json").read_text())
    asked = WORLD.data("prompts", split="test", limit=6, seed=0)
    by_text = {group.prompt[-1].content: group for group in asked}
    assert len(found["samples"]) == 6
    for row, (prompt, *texts) in enumerate(found["samples"]):
        golds = [grade(by_text[prompt].meta["request"], text).gold for text in texts]
        assert found["numbers"]["gold"][row] == pytest.approx(golds)
        assert found["numbers"]["short"][row] == pytest.approx([-float(max(0, len(t) - 10)) for t in texts])
        assert found["numbers"]["distinct"][row] == pytest.approx([len(set(texts)) / 3] * 3)
        assert all(p < 0 for p in found["numbers"]["mean_logprob"][row])
    config = replace(config, data=DataSettings(path=str(tmp_path / "asked.jsonl")), judges={})
    with pytest.raises(TrueupError, match=r"E827 .*no truth and no judge"):
        grade_samples.run(config, tmp_path / "out", stop_requested=never)


def test_a_spider_goes_round_the_spokes() -> None:
    drawn = spider({"a": [1.0, 0.0, 0.0], "b": [0.5] * 3}, ["x", "y", "z"], description="d")
    assert drawn.count("<polyline") == 4, "a closed line each, and one each in the legend"
    for said in ("a: x 1", "a: y 0", "b: z 0.5"):
        assert said in drawn


SMALL = {
    "sft": {"data": {"limit": 60}, "loop": {"epochs": 1}},
    "lessons_right": {"num_prompts": 150},
    "taught": {"loop": {"epochs": 1}},
    "certain": {"num_prompts": 80},
    "plain": {"num_prompts": 200},
}


@pytest.mark.slow  # trains and samples for real: half a minute each
@pytest.mark.parametrize("name", ["disguised-requests", "stated-confidence"])
def test_a_cheap_claim_runs_from_its_name_to_a_verdict(name: str, tmp_path: Path) -> None:
    runs = reproduce.experiment(name)
    assert runs is not None
    small = {stage: given for stage, given in SMALL.items() if stage in runs.recipe.stages}
    small |= {s: {"num_prompts": 200} for s in disguised.DISGUISES if s in runs.recipe.stages}
    small |= {s: {"num_prompts": 80} for s in ("untaught",) if s in runs.recipe.stages}
    runs = reproduce.experiment(name, seeds=(1, 2), overrides=small)
    assert runs is not None
    trials = []
    for job in runs.jobs():
        for stage in plan(job.recipe, tmp_path):
            run_stage(stage)
        trials.append(Trial(seed=job.seed, stages={s.name: s for s in plan(job.recipe, tmp_path)}))
    row = reproduce.reproduce(name, tmp_path, trials, small)
    assert (tmp_path / name / "index.html").is_file() and row["minutes"] > 0
    assert all(-1 <= value <= 1 for effect in row["effects"] for value in effect["by_seed"])
