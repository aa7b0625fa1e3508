"""References that lead into worlds: what is one, where it leads, and what a wrong one is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from trueup.engine.groups import Group
from trueup.errors import TrueupError
from trueup.judges.open import open_judge
from trueup.models.opening import model_path
from trueup.sources.context import open_context
from trueup.worlds import DEFAULT, Door, World, door_of, lead, leads_to, open_world, written
from trueup.worlds.doors import shipped


@pytest.mark.parametrize(
    ("reference", "door"),
    [
        ("lab:prompts", Door("lab", "prompts")),
        ("lab:gold/helpful", Door("lab", "gold/helpful")),
        ("real:base", Door("real", "base")),
        ("world:truth", Door(DEFAULT, "truth")),
        ("my/world.yaml:grade", Door("my/world.yaml", "grade")),
        ("world.yml:prompts", Door("world.yml", "prompts")),
        ("./a b.yaml:mine", Door("./a b.yaml", "mine")),
        # What other references look like.
        ("stage:sft", None),
        ("rule:length?longest=5", None),
        ("lm:http://127.0.0.1:8000#my-judge", None),
        ("http://127.0.0.1:8000/score", None),
        ("openai:http://x?model=m", None),
        ("grade.py:score", None),
        ("sum.yaml?helpful=1", None),
        ("toxicity:lexicon", None),
        ("C:/models/mine", None),
        ("prompts.jsonl", None),
        ("nowhere:prompts", None),
        ("", None),
    ],
)
def test_what_a_door_is(reference: str, door: Door | None) -> None:
    assert door_of(reference) == door


def test_a_setting_leads_every_door_of_a_run(tmp_path: Path) -> None:
    world = _world(tmp_path, "prompts: p.jsonl\njudges: {grade: 'rule:length'}\ntruth: grade\n")
    settings = {
        "model": {"path": "world:base"},
        "data": {"path": "world:prompts", "mix": {"a": "world:comparisons", "b": "file.jsonl"}},
        "judge": "world:truth",
        "teacher": "lm:world:base",
        "sum": "sum.yaml?a=world:truth",
        "kinds": ["world:x", 3],
        "note": "the world: all of it",
    }
    assert leads_to(settings) and not leads_to({"note": settings["note"], "data": ["lab:prompts", None, 1]})
    name = str(tmp_path / "w.yaml")
    assert lead(settings, world) == {
        "model": {"path": f"{name}:base"},
        "data": {"path": f"{name}:prompts", "mix": {"a": f"{name}:comparisons", "b": "file.jsonl"}},
        "judge": f"{name}:grade",
        "teacher": f"lm:{name}:base",
        "sum": f"sum.yaml?a={name}:grade",
        "kinds": [f"{name}:x", 3],
        "note": "the world: all of it",
    }
    assert lead("world:truth", open_world("lab")) == "lab:gold"


def test_a_truth_that_nobody_named_is_no_truth(tmp_path: Path) -> None:
    world = _world(tmp_path, "prompts: p.jsonl\njudges: {grade: 'rule:length'}\n")
    assert not world.believes and lead("world:base", world).endswith(":base")
    with pytest.raises(TrueupError, match=r"E762 .*w\.yaml — .*believes no judge — .*judge: .*w\.yaml:grade"):
        lead({"judge": "world:truth"}, world)


def test_two_worlds_ship_and_the_lab_is_the_default() -> None:
    assert shipped() == ["lab", "real"] and DEFAULT == "lab"
    with pytest.raises(TrueupError, match=r"E760 world — there is no world 'labb' — did you mean 'lab'"):
        open_world("labb")
    with pytest.raises(TrueupError, match=r"E801 world nowhere\.yaml"):
        open_world("nowhere.yaml")


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (
            lambda lab: lab.data("prompt", split="test", limit=1, seed=0),
            "no data 'prompt' — did you mean 'prompts'",
        ),
        (lambda lab: lab.judge("golden"), "no judge 'golden' — did you mean 'gold'"),
        (lambda lab: lab.judge("gold/helpfull"), "no part 'helpfull' — did you mean lab:gold/helpful"),
        (
            lambda lab: lab.sit(("truth_mc3",), split="test", limit=1),
            "no exam 'truth_mc3' — did you mean 'truth_mc'",
        ),
        (lambda lab: lab.sit((), split="tests", limit=1), "no split 'tests' — did you mean 'test'"),
        (lambda lab: lab.labeler("people"), "no labeler 'people' — it has crowd"),
        (lambda lab: lab.model("bass"), "no model 'bass' — did you mean 'base'"),
        (lambda lab: lab.text("principles"), "no text 'principles' — it has constitution, supervision"),
        (lambda lab: lab.dialogues("hh", 1), "no dialogues 'hh' — did you mean 'hhh'"),
    ],
)
def test_a_name_that_a_world_does_not_have_is_told_the_nearest(ask, said: str) -> None:
    with pytest.raises(TrueupError) as caught:
        ask(open_world("lab"))
    assert said in str(caught.value)


def test_every_door_of_the_lab_opens() -> None:
    lab = open_world("lab")
    for name in (
        "prompts",
        "comparisons",
        "demonstrations",
        "text",
        "tasks",
        "refusals",
        "summaries",
        "toxicity",
        "hhh",
    ):
        groups = lab.data(name, split="dev", limit=2, seed=0)
        assert len(groups) == 2 and all(isinstance(group, Group) for group in groups), name
    (prompt,) = lab.data("prompts", split="test", limit=1, seed=0)
    said = [
        prompt.with_completions(group.completions)
        for group in lab.data("demonstrations", split="", limit=1, seed=0)
    ]
    assert open_judge("world:truth")(said) == open_judge("lab:gold")(said)
    assert open_judge("lab:toxicity")(said) == open_judge("toxicity:lab")(said)
    assert open_context("world:hhh", 2) == lab.dialogues("hhh", 2) and len(lab.dialogues("hhh", 2)) == 4
    assert model_path("world:base") == lab.model("base")
    assert Path(written("lab", "constitution")).is_file() and written("general", "constitution") == "general"
    assert set(lab.sit((), split="dev", limit=1)) < set(lab.exams) and "lab_refusals" in lab.exams


def _world(folder: Path, text: str) -> World:
    (folder / "w.yaml").write_text(text, encoding="utf-8")
    return open_world(str(folder / "w.yaml"))
