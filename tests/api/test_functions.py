"""Each command's function: the command's numbers, on objects and on files, in a result that shows itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

import small_world
import trueup
from fake_comparison import write_fake_comparison
from trueup.api import comparing
from trueup.cli import main
from trueup.errors import TrueupError
from trueup.settings.held import holding

SHORT = {"steps": 1, "batch": 2}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_world.make(tmp_path_factory.mktemp("world"))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    yield tmp_path


@pytest.fixture
def model(world: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(world / "my-model")


@pytest.fixture(scope="module")
def tokenizer(world: Path) -> Any:
    return AutoTokenizer.from_pretrained(world / "my-model")


def shows_itself(result: Any, *words: str) -> None:
    """Asserts that a result is a readable text and a fragment of HTML, and that both say some words."""
    text, html = str(result), result._repr_html_()
    assert "object at 0x" not in text and html.startswith("<")
    for word in words:
        assert word in text and word in html, word


def command(line: str, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(line.split()) == 0
    return capsys.readouterr().out


# ------------------------------------------------------------------------------------------ data


def test_bad_rows_of_an_object_are_named_as_those_of_a_file() -> None:
    rows = [*small_world.preferences(3), {"prompt": "q", "chosen": "a", "rejected": 3}]
    report = trueup.check(rows)
    assert not report.ok and str(report.problems[0]).startswith("E") and "list:4 " in str(report.problems[0])
    shows_itself(report, "list", "preference")
    with pytest.raises(TrueupError, match=r"E601 DataFrame .*DataFrame:4"):
        trueup.read(pandas.DataFrame(rows))
    found = trueup.read(pandas.DataFrame(rows), max_bad=0.5, quarantine="bad.jsonl")
    assert len(found) == 3 and json.loads(Path("bad.jsonl").read_text())["line"] == 4
    assert found.counts is not None and found.counts.quarantined == 1 and len(found.problems) == 1
    shows_itself(found, "3 groups from DataFrame", "3 of 4 rows accepted", "what is 0?")


def test_values_of_frames_are_plain_values() -> None:
    frame = pandas.DataFrame(
        {
            "prompt": ["a", "b"],
            "level": pandas.array([1, None], dtype="Int64"),
            "score": [0.5, np.nan],
            "tags": [np.array(["x"]), ["y"]],
            "when": pandas.to_datetime(["2024-01-01", None]),
        }
    )
    first, second = trueup.read(frame)
    assert first.meta == {"level": 1, "score": 0.5, "tags": ["x"], "when": "2024-01-01 00:00:00"}
    assert second.meta == {"tags": ["y"]}
    assert type(first.meta["level"]) is int


def test_groups_are_a_sequence_a_frame_and_a_file(here: Path) -> None:
    groups = trueup.read([{**row, "level": 2} for row in small_world.preferences(3)])
    assert len(groups) == 3 and [g.id for g in groups] == ["list:1", "list:2", "list:3"]
    assert groups[1:] == groups.groups[1:] and groups[0].completions[0].text == "it is 0"
    frame = groups.frame()
    assert list(frame["completion"][:2]) == ["it is 0", "no 0"] and set(frame["level"]) == {2}
    assert groups.write("groups.jsonl") == Path("groups.jsonl")
    made = trueup.convert("groups.jsonl", here / "groups.parquet")
    assert made.counts.groups == 3 and trueup.read(here / "groups.parquet").texts == groups.texts
    assert trueup.convert(groups, here / "again.jsonl").ok
    assert (here / "again.jsonl").read_bytes() == (here / "groups.jsonl").read_bytes()


def test_a_text_alone_is_a_turn_and_a_prompt_of_text_is_text() -> None:
    said, plain, talk = trueup.read(["hello", {"prompt": "once"}, [{"role": "user", "content": "hi"}]])
    assert [g.prompt[0].role for g in (said, plain, talk)] == ["user", "text", "user"]


# ------------------------------------------------------------------------------------------ models


def test_an_object_says_what_its_folder_says(world: Path, model: Any, tokenizer: Any) -> None:
    by_object, by_folder = trueup.load(model, tokenizer), trueup.load(world / "my-model")
    asked = ["what is 1?", "what is 2?"]
    drawn = by_object.generate(asked, k=2, max_new_tokens=4, seed=3)
    assert drawn.texts == by_folder.generate(asked, k=2, max_new_tokens=4, seed=3).texts
    again = trueup.generate(model, asked, tokenizer=tokenizer, k=2, max_new_tokens=4, seed=3)
    assert drawn.texts == again.texts
    assert drawn.texts != by_object.generate(asked, k=2, max_new_tokens=4, seed=4).texts
    for ours, theirs in zip(by_object.logprobs(drawn), by_folder.logprobs(drawn), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert by_object.transformers is model and by_object.num_parameters == by_folder.num_parameters
    assert str(by_folder) == str(world / "my-model") and str(by_object) == "LlamaForCausalLM in memory"
    shows_itself(by_folder, "my-model")
    with pytest.raises(TrueupError, match="E754"):
        Path(by_object)
    with pytest.raises(TrueupError, match="E834"):
        by_object.score(drawn)


def test_a_view_of_an_object_takes_no_memory_of_its_own(model: Any, tokenizer: Any) -> None:
    network = trueup.load(model, tokenizer)._network
    theirs = {p.data_ptr() for p in model.parameters()}
    assert {p.data_ptr() for p in network.hf_model.parameters()} == theirs
    assert model.config._attn_implementation != "trueup" and all(p.requires_grad for p in model.parameters())


def test_greedy_best_of_and_plain_texts(world: Path) -> None:
    found = trueup.load(world / "my-model")
    greedy = found.generate("a", k=2, temperature=0, max_new_tokens=4)
    assert greedy.texts[0][0] == greedy.texts[0][1]
    plain = found.generate("once upon", plain=True, max_new_tokens=4)
    assert plain[0].prompt[0].role is trueup.Role.TEXT
    drawn = trueup.generate(found, "a", k=4, max_new_tokens=4)
    best = trueup.generate(found, "a", k=4, judge=lambda completion: -len(completion), max_new_tokens=4)
    assert best.texts == [[min(drawn.texts[0], key=len)]]


def test_generate_is_the_command(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = command(f"generate {world / 'my-model'} hello --num 2 --max-new-tokens 4", capsys)
    (texts,) = trueup.generate(world / "my-model", "hello", k=2, max_new_tokens=4).texts
    assert json.loads(said)["completions"] == texts


def test_a_missing_folder_is_said_at_once(world: Path) -> None:
    with pytest.raises(TrueupError, match="E801"):
        trueup.load("./nowhere")


# ------------------------------------------------------------------------------------------ measuring

TASK = """
name: sums
version: 1
about: letters after numbers
reference: none
score: sum
items: {path: rows.jsonl}
query: "{prompt}"
each: choices
answer: answer
"""


def test_evaluate_is_the_command(
    world: Path, model: Any, tokenizer: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"prompt": f"{i} and", "choices": [" a", " b"], "answer": i % 2} for i in range(4)]
    Path("sums.yaml").write_text(TASK)
    small_world.write(Path("rows.jsonl"), rows)
    other = trueup.fit("sft", model=world / "my-model", data=world / "demos.jsonl", loop=SHORT)
    found = trueup.evaluate(
        model,
        "sums.yaml",
        tokenizer=tokenizer,
        against=other,
        data={"sums": pandas.DataFrame(rows)},
        template="plain",
        out="measured",
    )
    line = f"eval {world / 'my-model'} --tasks sums.yaml --data.sums rows.jsonl --against {other.folder}"
    theirs = json.loads(command(f"{line} --template plain --json", capsys))
    assert found.document["tasks"] == theirs["tasks"]
    assert found.figures["sums"].n == 4 and set(found.differences) == {"sums"}
    assert Path("measured/eval.json").is_file() and len(found.items["sums"]) == 4
    assert list(found.frame()["figure"]) == ["sums"]
    shows_itself(found, "sums")


@pytest.mark.parametrize("name", ["toxicity", "refusals", "summaries"])
def test_behaviour_is_the_command(name: str, world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = {
        "toxicity": [{"prompt": "You are", "toxicity": 0.9}, {"prompt": "I am", "toxicity": 0.1}],
        "refusals": [{"prompt": "Help me", "harmful": False}, {"prompt": "Harm me", "harmful": True}],
        "summaries": [{"document": "A cat sat.", "summary": "A cat."}, {"document": "B", "summary": "b"}],
    }[name]
    small_world.write(Path("rows.jsonl"), rows)
    more: dict[str, Any] = {
        "toxicity": {"num_continuations": 2, "max_new_tokens": 3},
        "refusals": {},
        "summaries": {"max_new_tokens": 3},
    }[name]
    options = " ".join(f"--{key.replace('_', '-')} {value}" for key, value in more.items())
    found = getattr(trueup, name)(world / "my-model", data=pandas.DataFrame(rows), out="said.jsonl", **more)
    said = json.loads(command(f"{name} {world / 'my-model'} --data rows.jsonl {options} --json", capsys))
    assert found.document == said and found.figures
    assert len(found.groups) == 2 and Path("said.jsonl").is_file()
    shows_itself(found, name, str(world / "my-model"))
    assert set(found.frame()["figure"]) == set(found.figures)


def test_programs_are_counted(world: Path) -> None:
    test = "def check(f):\n    assert f() == 1\n"
    problem = {"task_id": "t/0", "prompt": "def f():\n", "test": test, "entry_point": "f"}
    found = trueup.programs(world / "my-model", [problem], num_samples=2, k=(1, 2), max_new_tokens=4)
    assert set(found.figures) == {"pass@1", "pass@2"} and sum(found.document["outcomes"].values()) == 2
    shows_itself(found, "pass@1")


@pytest.mark.usefixtures("strongest")
def test_programs_written_already_are_counted_without_a_model() -> None:
    test = "def check(f):\n    assert f() == 1\n"
    problem = {"task_id": "t/0", "prompt": "def f():\n", "test": test, "entry_point": "f"}
    texts = ["    return 1\n", "```python\ndef f():\n    return 2\n```"]
    samples = [{"task_id": "t/0", "completion": text} for text in texts]
    found = trueup.programs(samples=samples, data=[problem])
    assert {name: rate.mean for name, rate in found.figures.items()} == {"pass@1": 0.5, "pass@2": 1.0}
    again = trueup.programs(samples=found.groups, k=2)
    assert again.figures["pass@2"].mean == 1.0 and list(again.figures) == ["pass@2"]
    for given in ({}, {"samples": samples, "model": "m"}, {"model": "m"}):
        with pytest.raises(TrueupError, match="E702 programs"):
            trueup.programs(**given)


# ------------------------------------------------------------------------------------------ judging


def test_judging_by_a_function_and_rating_what_it_said(here: Path) -> None:
    said = [{"text": "aa", "source": "x"}, {"text": "b", "source": "y"}]
    row = {"prompt": [{"role": "user", "content": "?"}], "completions": said}
    groups = trueup.read([row] * 3, format="group")
    judged = trueup.judge(groups, lambda completion: len(completion), how="scores", out="judged.jsonl")
    assert [s.value for s in judged.groups[0].scores] == [2.0, 1.0] and judged.account == {}
    shows_itself(judged, "6 completions scored")
    with pytest.raises(TrueupError, match="E792"):
        trueup.judge(groups, "rule:length")
    board = trueup.rank(judged.groups, prior=0.1, out="board.html")
    assert [m["model"] for m in board.models] == ["x", "y"] and board.against("y")
    assert "x leads" in str(board) and Path("board.html").is_file()
    shows_itself(board, "x leads", "rating")
    assert list(board.frame()["model"]) == ["x", "y"]


def test_rank_takes_battles_and_says_what_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    battles = [{"a": "x", "b": "y", "outcome": o} for o in ("a", "a", "b", "tie")]
    small_world.write(Path("battles.jsonl"), battles)
    theirs = json.loads(command("rank battles.jsonl --json", capsys))
    for given in (battles, pandas.DataFrame(battles), "battles.jsonl"):
        assert trueup.rank(given).board["models"] == theirs["models"]
    with pytest.raises(TrueupError, match=r"E202 .*a battle has a, b and outcome"):
        trueup.rank([{"left": "x", "right": "y"}])


# ------------------------------------------------------------------------------------------ runs

RECIPE = """
name: two
stages:
  sft: {data: {path: DEMOS}, model: {path: MODEL}, loop: {steps: 1, batch: 2}}
  best: {method: best_of_n, judge: "rule:length", n: 2, model: {path: "stage:sft"}, data: {path: PROMPTS}}
"""


def test_a_recipe_is_run_and_read_again(world: Path) -> None:
    text = RECIPE.replace("DEMOS", str(world / "demos.jsonl")).replace("MODEL", str(world / "my-model"))
    Path("two.yaml").write_text(text.replace("PROMPTS", str(world / "prompts.jsonl")))
    lines: list[str] = []
    short = {"best": {"decoding": {"max_new_tokens": 3}}}
    found = trueup.run("two.yaml", say=lines.append, sft={"seed": 3}, **short)
    assert found.folder == Path("runs/two") and list(found.stages) == ["sft", "best"]
    assert lines == ["[1/2] sft", "  update.lr 0.001: demonstrations, 10.1 k weights (auto)", "[2/2] best"]
    assert found.stages["sft"].model.num_parameters and len(found.stages["best"].groups) == 8
    again = trueup.run(Path("two.yaml"), out="runs/two", say=lines.append, sft={"seed": 3}, **short)
    assert again.stages["sft"].folder == found.stages["sft"].folder and lines[-1].endswith("done before")
    assert found.summary is None and found.report().path.is_file()
    shows_itself(found)
    with pytest.raises(TrueupError, match=r"E711 run stf .*did you mean `sft`"):
        trueup.run("two.yaml", stf={})


def test_settings_are_shown_and_nothing_is_run(world: Path) -> None:
    shown = trueup.config("dpo", data=small_world.preferences(), lr=1e-5, out="run", model=world / "my-model")
    assert shown["method"] == "dpo" and shown["update"]["lr"] == 1e-5
    assert shown["data"]["path"] == "run/inputs/data.jsonl" and not Path("run").exists()
    trained = trueup.fit("sft", data=world / "demos.jsonl", model=world / "my-model", loop=SHORT)
    expected = trueup.config("sft", data=world / "demos.jsonl", model=world / "my-model", loop=SHORT)
    kept = trueup.Trained.of(trained.folder)
    assert json.loads(json.dumps(expected)) == _settings(kept.folder)


def _settings(folder: Path) -> Any:
    from trueup.settings.config import read_yaml

    return json.loads(json.dumps(read_yaml(folder / "config.resolved.yaml").values))


def test_a_preview_shows_rows_as_the_model_reads_them(model: Any, tokenizer: Any) -> None:
    row = {
        "prompt": [{"role": "user", "content": "<b>"}],
        "completion": [{"role": "assistant", "content": "yes"}],
    }
    data = {"path": [row, row], "held_out": 0.0}
    found = trueup.preview("sft", model=model, tokenizer=tokenizer, data=data, num=1)
    assert len(found.rows) == 1 and "<|im_start|>user\n<b><|im_end|>" in found.rows[0]
    assert "2 rows: 2 to train on" in found.counts and "&lt;b&gt;" in found._repr_html_()
    with pytest.raises(TrueupError, match="E728"):
        trueup.preview("mix", experts={})
    assert not Path("runs").exists()


def test_reports_exports_and_citations_by_folder(world: Path) -> None:
    trained = trueup.fit("sft", data=world / "demos.jsonl", model=world / "my-model", out="run", loop=SHORT)
    page = trueup.report("run")
    assert page.path == Path("run/report.html") and str(page) == "report: run/report.html"
    assert "Trained" in page._repr_html_() and Path(page).is_file()
    assert trueup.export(trained, "out") == Path("out") and Path("out/README.md").is_file()
    assert trueup.cite("run") == trueup.cite(trained) and "@" in trueup.cite("dpo")
    assert repr(trained) == "<trueup run of sft in run>"
    with pytest.raises(TrueupError, match="E847"):
        trueup.Trained.of("out")
    with pytest.raises(TrueupError, match="E847"):
        trueup.report(world)


def test_a_soup_of_two_and_its_front(world: Path) -> None:
    given: dict[str, Any] = {"model": world / "my-model", "data": world / "demos.jsonl"}
    one = trueup.fit("sft", out="one", loop=SHORT, **given)
    two = trueup.fit("sft", out="two", loop={"steps": 2, "batch": 2}, **given)
    mixed = trueup.soup([one, two.model], out="mixed", weights=(0.5, 0.5))
    assert mixed.front is None and mixed.model.num_parameters
    shows_itself(mixed, "mixed")
    with pytest.raises(TrueupError, match=r"E736 weights"):
        trueup.soup([one, two], out="x", weights=(1.0, 0.0), judges={"a": "rule:length"})
    with pytest.raises(TrueupError, match="E754"):
        trueup.soup([AutoModelForCausalLM.from_pretrained(world / "my-model"), two], out="y")
    measured = trueup.soup(
        [one, two],
        out="front",
        judges={"brief": lambda completion: -len(completion), "long": "rule:length?shortest=50"},
        prompts=world / "prompts.jsonl",
        validation=world / "prompts.jsonl",
        num_prompts=2,
        steps=2,
        tries=3,
    )
    assert measured.front is not None and Path("front/soups.html").is_file()
    shows_itself(measured, "model: front/model")


def test_a_comparison_shows_its_table(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def made_up(folder: Path, comparison: Any, **more: Any) -> None:
        asked.update(more, seeds=comparison.seeds, name=comparison.name)
        write_fake_comparison(folder)
        (folder / "comparison.md").write_text("| method | gain |\n", encoding="utf-8")

    monkeypatch.setattr(comparing, "compare_in", made_up)
    found = trueup.compare("compare-quick", out="compared", seeds=[4, 5], workers=1)
    assert asked["seeds"] == (4, 5) and asked["workers"] == 1 and asked["name"] == "compare-quick"
    assert "ppo" in set(found.frame()["method"]) and len(found.methods) == 14
    assert str(found) == "| method | gain |" and "PPO" in found._repr_html_()
    page = found.report()
    assert page.path == Path("compared/comparison.html") and page._repr_html_() == found._repr_html_()
    assert trueup.report("compared").path == page.path
    with pytest.raises(TrueupError, match="E721"):
        trueup.compare("demo")


def test_claims_are_listed(here: Path) -> None:
    known = trueup.reproduce(out="claims")
    assert known.verdicts and set(known.verdicts.values()) == {None}
    assert len(known.frame()) == len(known.claims)
    shows_itself(known, "kl-directions", "not measured")
    found = trueup.reproduce("kl-directions", out="claims")
    assert found.claims[0]["effects"] and found.verdicts["kl-directions"] is not None


# ------------------------------------------------------------------------------------------ references


def test_without_pandas_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(TrueupError, match=r"E811 .*pip install pandas"):
        trueup.read(small_world.prompts(1)).frame()


def test_what_results_show_is_escaped() -> None:
    groups = trueup.read([{"prompt": "<script>alert(1)</script>", "completion": "\x1b[2Jx"}])
    assert "<script>" not in groups._repr_html_() and "\x1b" not in groups._repr_html_()


def test_a_reference_means_its_object_only_while_it_is_held() -> None:
    from trueup.judges.open import open_judge

    def five(completion):
        return 5.0

    group = trueup.Group(prompt=(), completions=(trueup.Completion(text="x"),))
    with holding({"python:__main__:five": five}):
        assert open_judge("python:__main__:five")([group]) == [[5.0]]
    with pytest.raises(TrueupError, match=r"E753 .*five"):
        open_judge("python:__main__:five")
    with pytest.raises(TrueupError, match="E753"):
        open_judge("python:no_such_module:five")
    with pytest.raises(TrueupError, match=r"E753 .*no function"):
        open_judge("python:math:pi")
    assert open_judge("python:math:sqrt")([]) == []
