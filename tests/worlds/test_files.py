"""A world in a user's file: what it says, from wherever it is read, and a run and its measures in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trueup.cli import main
from trueup.errors import EXIT_AWAITS, TrueupError
from trueup.runs.recipe import Recipe, Stage, plan, read_recipe, run_recipe, run_stage
from trueup.worlds import came_from, open_world, world_of

WORLD = """
prompts: {train: train.jsonl, dev: dev.jsonl, test: test.jsonl}
comparisons: pairs.jsonl
demonstrations: demos.jsonl
judges: {grade: "grade.py:short", other: "rule:length?longest=3"}
truth: grade
labelers: {panel: people}
exams: {number_answer: sums.jsonl, mine: mine.yaml}
"""
MINE = """
name: mine
version: 1
about: whether a word follows another
reference: nobody
score: sum
items: {path: "{folder}/mine.jsonl"}
query: "{q}"
choices: [" a", " b"]
answer: right
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder `mine/` with a whole world, beside the folder that the commands are typed in."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for split in ("train", "dev", "test"):
        _write(folder / f"{split}.jsonl", [{"prompt": f"{split} asks {i}"} for i in range(12)])
    _write(folder / "demos.jsonl", [{"prompt": f"ask {i}", "completion": "So it is."} for i in range(16)])
    pairs = [{"prompt": f"ask {i}", "chosen": "Yes.", "rejected": "No, not at all."} for i in range(16)]
    _write(folder / "pairs.jsonl", pairs)
    _write(folder / "sums.jsonl", [{"question": f"{i}+1?", "answer": f"#### {i + 1}"} for i in range(3)])
    _write(folder / "mine.jsonl", [{"q": "one", "right": i % 2} for i in range(4)])
    (folder / "mine.yaml").write_text(MINE.replace("{folder}", str(folder)), encoding="utf-8")
    (folder / "grade.py").write_text("def short(prompt, text):\n    return 1.0 / (1 + len(text))\n")
    (folder / "world.yaml").write_text(WORLD, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


SFT = {
    "model": {"path": "lab:base"},
    "data": {"path": "world:demonstrations", "held_out": 0.0},
    "loop": {"steps": 2, "batch": 4},
}
MEASURE = {
    "model": "stage:sft",
    "split": "test",
    "num_prompts": 6,
    "exam_items": 2,
    "decoding": {"max_new_tokens": 4},
}


def test_a_run_moves_to_another_world_by_one_setting_and_is_measured_there(here: Path) -> None:
    """From the folder beside it: trained on its demonstrations, asked its prompts, judged by its judges."""
    recipe = Recipe(name="r", stages={"sft": SFT, "measure": MEASURE}, world="mine/world.yaml")
    said: list[str] = []
    run_recipe(recipe, here / "run", say=said.append)
    assert said[0] == "world: mine/world.yaml"
    sft, measured = plan(recipe, here / "run")
    assert sft.settings["data"]["path"] == "mine/world.yaml:demonstrations"
    assert json.loads((sft.folder / "data.json").read_text())["train"] == 16
    found = json.loads((measured.folder / "measured.json").read_text())
    assert found["samples"][0][0].startswith("test asks")
    assert set(found["numbers"]) == {"gold", "grade", "other", "length", "ended", "entropy"}
    assert found["numbers"]["gold"] == found["numbers"]["grade"] != found["numbers"]["other"]
    for (_, text), (gold,) in zip(found["samples"], found["numbers"]["gold"], strict=False):
        assert gold == pytest.approx(1.0 / (1 + len(text))), "the file's function, on what was said"
    assert {name: len(values) for name, values in found["exams"].items()} == {"number_answer": 2, "mine": 2}


def test_a_measure_takes_the_world_that_the_data_came_from(here: Path) -> None:
    stages = {"sft": {**SFT, "world": "mine/world.yaml"}, "again": {**SFT, "method": "sft"}}
    stages["again"] = {**SFT, "method": "sft", "model": {"path": "stage:sft"}, "world": "mine/world.yaml"}
    sft, again = plan(Recipe(name="r", stages=stages), here / "run")
    run_stage(sft)
    run_stage(again)
    for stage in (sft, again):
        assert came_from(str(stage.folder / "model")) == "mine/world.yaml"
    assert world_of("", "", str(sft.folder / "model"), where="measure").name == "mine/world.yaml"
    assert world_of("lab", str(sft.folder / "model"), where="measure").name == "lab", (
        "what is named comes first"
    )


def test_nobodys_own_data_are_measured_in_the_lab_in_silence(here: Path) -> None:
    own = {**SFT, "data": {"path": "mine/demos.jsonl", "held_out": 0.0}}
    sft, measured = plan(Recipe(name="r", stages={"sft": own, "measure": MEASURE}), here / "run")
    run_stage(sft)
    assert came_from(str(sft.folder / "model")) is None
    with pytest.raises(
        TrueupError, match=r"E763 measure — no world says .* data of your own — on the command line --world"
    ):
        run_stage(measured)
    assert not (measured.folder / "measured.json").exists()


def test_data_of_two_worlds_are_of_neither(here: Path) -> None:
    mixed = {
        **SFT,
        "data": {"mix": {"a": "mine/world.yaml:demonstrations", "b": "lab:demonstrations"}, "limit": 8},
    }
    (sft,) = plan(Recipe(name="r", stages={"sft": mixed}), here / "run")
    run_stage(sft)
    assert came_from(str(sft.folder / "model")) is None


@pytest.mark.parametrize("method", ["mix", "soup"])
def test_a_soup_comes_from_the_world_of_its_experts_though_they_share_what_they_learned_from(
    method: str,
) -> None:
    """Three experts on one file of labels, from one start: each way back leads over the same two folders."""
    planned = {
        "made/sft": {"method": "sft", "data": {"path": "lab:demonstrations"}, "model": {"path": "lab:base"}},
        "made/labels": {"method": "label", "prompts": "lab:prompts", "model": "made/sft"},
        **{
            f"made/{one}": {
                "method": "best_of_n_sft",
                "data": {"path": "made/labels"},
                "model": {"path": "made/sft"},
            }
            for one in ("first", "second", "third")
        },
        "made/soup": {
            "method": method,
            "experts": {one: f"made/{one}" for one in ("first", "second", "third")},
        },
    }
    assert came_from("made/soup", planned) == "lab"
    planned["made/third"] = {"method": "sft", "data": {"path": "mine.jsonl"}, "model": {"path": "made/sft"}}
    assert came_from("made/soup", planned) is None, "one of them learned from something else"
    planned["made/third"] = {"method": "sft", "data": {"path": "made/third"}}
    assert came_from("made/third", planned) is None, "a circle ends"


def test_a_run_without_a_world_says_that_it_takes_the_labs(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "one.yaml").write_text(
        "method: sft\nloop: {steps: 1, batch: 2}\ndata: {limit: 4}\n", encoding="utf-8"
    )
    assert main(["train", "one.yaml", "--out", "one"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[1] == "world: lab (the default; --world FILE.yaml leads to yours)"
    assert (
        main(["train", "one.yaml", "--world", "mine/world.yaml", "--model.path", "lab:base", "--out", "two"])
        == 0
    )
    assert capsys.readouterr().out.splitlines()[1] == "world: mine/world.yaml"
    named = ["--data.path", "mine/demos.jsonl", "--model.path", "lab:base"]
    assert main(["train", "one.yaml", *named, "--out", "three"]) == 0
    assert "world:" not in capsys.readouterr().out, "settings that name all they read lead nowhere"


def test_a_changed_file_of_a_world_is_another_run(here: Path) -> None:
    def digest() -> str:
        stage: Stage = plan(Recipe(name="r", stages={"sft": SFT}, world="mine/world.yaml"), here / "run")[0]
        return stage.digest

    before = digest()
    assert digest() == before
    for name in ("demos.jsonl", "grade.py", "world.yaml"):
        with (here / "mine" / name).open("a", encoding="utf-8") as file:
            file.write("\n# more\n" if name != "demos.jsonl" else '{"prompt": "x", "completion": "y"}\n')
        assert digest() != before, name
        before = digest()


def test_people_of_a_world_are_waited_for(here: Path) -> None:
    label = {
        "method": "label",
        "labeler": "mine/world.yaml:panel",
        "data": {"path": "lab:prompts", "limit": 1},
    }
    (stage,) = plan(Recipe(name="r", stages={"label": label}), here / "run")
    with pytest.raises(TrueupError, match=r"E704 kind — people rank all .* — `--kind ranking`"):
        run_stage(stage)
    (stage,) = plan(Recipe(name="r", stages={"label": {**label, "kind": "ranking"}}), here / "run")
    with pytest.raises(TrueupError, match=r"E783 .*rank.txt — 1 of 1 prompt wait to be ranked") as waits:
        run_stage(stage)
    assert waits.value.exit_code == EXIT_AWAITS == 79


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("judges: {}", "E713 {file} prompts"),
        ("prompts: a.jsonl\nprompt: b.jsonl", "did you mean `prompts`"),
        ("prompts: a.jsonl\ntruth: grade", "`truth` is 'grade', which `judges` does not name"),
        (
            "prompts: a.jsonl\nlabelers: {me: you}",
            "the labeler 'me' is 'you': neither `people` nor one of `judges`",
        ),
        ("prompts: 3", "E712 {file}"),
    ],
)
def test_a_file_that_says_something_else_is_told_where(here: Path, text: str, said: str) -> None:
    (here / "w.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(TrueupError) as caught:
        open_world("w.yaml")
    assert said.replace("{file}", "w.yaml") in str(caught.value)


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda w: w.data("prompts", split="tset", limit=1, seed=0), "no split 'tset' — did you mean 'test'"),
        (
            lambda w: w.data("labels", split="", limit=1, seed=0),
            "no data 'labels' — it has prompts, comparisons",
        ),
        (lambda w: w.judge("grades"), "no judge 'grades' — did you mean 'grade'"),
        (lambda w: w.model("base"), "no model 'base' — it has none"),
        (lambda w: w.sit(("lambada",), split="test", limit=1), "no exam 'lambada'"),
        (lambda w: w.text("constitution"), "no text 'constitution'"),
        (lambda w: w.dialogues("hhh", 2), "no dialogues 'hhh'"),
    ],
)
def test_what_a_file_does_not_have_is_told_by_name(here: Path, ask: Any, said: str) -> None:
    with pytest.raises(TrueupError) as caught:
        ask(open_world("mine/world.yaml"))
    assert (
        caught.value.code == "E761" and said in str(caught.value) and "mine/world.yaml" in str(caught.value)
    )


def test_paths_lie_beside_the_file_and_references_stay_as_they_are(here: Path) -> None:
    text = (
        "prompts: p.jsonl\nbase: Org/a-model\n"
        "judges: {a: 'lm:http://127.0.0.1:1#x', b: runs/rm/model, c: 'x.py:f'}\n"
        "exams: {e: gone.jsonl}\ndialogues: d.jsonl\ntexts: {constitution: c.yaml}\n"
    )
    (here / "mine" / "w.yaml").write_text(text, encoding="utf-8")
    (here / "mine" / "runs" / "rm" / "model").mkdir(parents=True)
    world = open_world("mine/w.yaml")
    assert world.data("prompts", split="anything", limit=None, seed=0) == "mine/p.jsonl"
    assert [world.judge(n) for n in "abc"] == ["lm:http://127.0.0.1:1#x", "mine/runs/rm/model", "mine/x.py:f"]
    assert world.model("base") == "Org/a-model" and world.sit((), split="test", limit=1) == {
        "e": "mine/gone.jsonl"
    }
    assert world.dialogues("hhh", 3) == "mine/d.jsonl" and world.text("constitution") == "mine/c.yaml"
    assert [str(p) for p in world.files()] == ["mine/w.yaml", "mine/runs/rm/model"], "what is there"


def test_the_labs_recipes_end_where_they_ended(here: Path) -> None:
    """Doors are led before digests are taken: naming the lab and naming nothing are one."""
    short = {"loop": {"steps": 1, "batch": 2}}
    named = {**short, "data": {"path": "lab:demonstrations"}, "model": {"path": "lab:base"}}
    (a,) = plan(Recipe(name="r", stages={"sft": short}), here / "run")
    (b,) = plan(Recipe(name="r", stages={"sft": named}), here / "run")
    assert a.digest == b.digest and a.settings == b.settings
    rl = {"reinforce": {"loop": {"steps": 1}}}
    (c,) = plan(Recipe(name="r", stages=rl), here / "run")
    assert c.settings["judge"] == "lab:gold" and c.settings["data"]["path"] == "lab:prompts"
    (here / "r.yaml").write_text("name: r\nworld: mine/world.yaml\nstages:\n  reinforce:\n", encoding="utf-8")
    (d,) = plan(read_recipe(here / "r.yaml"), here / "run")
    assert d.settings["judge"] == "mine/world.yaml:grade"


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
