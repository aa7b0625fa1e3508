"""`trueup measure` with exams, from the command line: the tax, where items are found, what is refused."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import small_world
import trueup
from measurement import own_world
from trueup.cli import main

TASK = """
name: sums
version: 1
about: which number follows
reference: nobody
score: sum
items: {path: items/sums.jsonl}
query: "{q}"
each: choices
answer: answer
"""
SUMS = [
    {"q": f"{i} and {i + 1} is", "choices": [f"{2 * i + 1}", f"{2 * i}", "no"], "answer": i % 3}
    for i in range(9)
]
LAMBADA = [{"text": f"He said it was number {i}"} for i in range(4)]
FEW = ["--num-prompts", "4", "--max-new-tokens", "3"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`mine/` with a world that has two exams, one in a task's file whose items lie below that."""
    folder = own_world.add_changed(own_world.make(tmp_path_factory.mktemp("exams") / "mine"))
    (folder / "tasks" / "items").mkdir(parents=True)
    small_world.write(folder / "tasks" / "items" / "sums.jsonl", SUMS)
    (folder / "tasks" / "sums.yaml").write_text(TASK, encoding="utf-8")
    small_world.write(folder / "words.jsonl", LAMBADA)
    exams = "exams: {sums: tasks/sums.yaml, lambada: words.jsonl}\n"
    world = (folder / "world.yaml").read_text("utf-8")
    (folder / "examined.yaml").write_text(world + exams, encoding="utf-8")
    return folder.parent


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own beside which `mine` lies, in which commands are typed."""
    (tmp_path / "mine").symlink_to(made / "mine")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def right(model: str) -> np.ndarray:
    """Of each sum whether the right choice has the largest log-probability, by transformers."""
    network = AutoModelForCausalLM.from_pretrained(model).eval()
    tokenizer = AutoTokenizer.from_pretrained(model)

    def score(query: str, choice: str) -> float:
        prompt, whole = tokenizer(query).input_ids, tokenizer(f"{query} {choice}").input_ids
        with torch.no_grad():
            logs = torch.log_softmax(network(torch.tensor([whole])).logits[0].double(), -1)
        return float(sum(logs[i - 1, whole[i]] for i in range(len(prompt), len(whole))))

    found = [np.argmax([score(row["q"], choice) for choice in row["choices"]]) for row in SUMS]
    return np.array(found == np.array([row["answer"] for row in SUMS]), float)


def test_the_tax_is_the_difference_on_the_same_items(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["mine/model-b", "--against", "mine/model-a", "--world", "mine/examined.yaml"]
    assert main(["measure", *options, *FEW, "--exam-items", "9", "--out", "out"]) == 0, (
        capsys.readouterr().err
    )
    said = capsys.readouterr().out
    found = {row["name"]: row for row in json.loads(Path("out/measure.json").read_text("utf-8"))["models"]}
    kept = {
        name: json.loads(next(Path("out/stages").glob(f"{name}-*/measured.json")).read_text("utf-8"))["exams"]
        for name in found
    }
    values = {name: right(f"mine/{name}") for name in found}
    assert values["model-a"].tolist() != values["model-b"].tolist()
    for name, row in found.items():
        assert kept[name]["sums"] == values[name].tolist() and len(kept[name]["lambada"]) == 4
        assert row["exams"]["sums"]["mean"] == pytest.approx(values[name].mean())
    gap = values["model-b"] - values["model-a"]
    tax = found["model-b"]["tax"]["sums"]
    half = 2.306004 * gap.std(ddof=1) / math.sqrt(9)
    assert tax["mean"] == pytest.approx(gap.mean()) and tax["n"] == 9
    assert tax["ci95"] == pytest.approx([gap.mean() - half, gap.mean() + half], abs=1e-6)
    assert found["model-a"]["tax"] == {} and set(found["model-b"]["tax"]) == {"sums", "lambada"}
    row = re.search(r"^ model-b +sums +(\S+) \[.*\] +(\S+) \[", said, re.MULTILINE)
    assert row and (row[1], row[2]) == (f"{values['model-b'].mean():.3f}", f"{gap.mean():+.3f}")
    page = re.search(r"^report: (\S+)$", said, re.MULTILINE)
    assert page and "sums" in Path(page[1]).read_text("utf-8")


def test_files_of_exams_stand_on_the_command_line_beside_prompts(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same items give the same values as those of a world's file; fewer items are the first ones."""
    options = ["--prompts", "mine/test.jsonl", "--judge", "mine/grade.py:short", *FEW, "--exam-items", "5"]
    exams = ["--exams", "lambada=mine/words.jsonl,mine/tasks/sums.yaml"]
    assert main(["measure", "mine/model-b", *options, *exams, "--out", "out"]) == 0, capsys.readouterr().err
    (row,) = json.loads(Path("out/measure.json").read_text("utf-8"))["models"]
    assert {name: sat["n"] for name, sat in row["exams"].items()} == {"lambada": 4, "sums": 5}
    assert row["exams"]["sums"]["mean"] == pytest.approx(right("mine/model-b")[:5].mean())
    found = trueup.measure(
        "mine/model-b", prompts="mine/test.jsonl", exams={"sums": "mine/tasks/sums.yaml"}, exam_items=5,
        num_prompts=4, max_new_tokens=3, out="python", say=lambda line: None,
    )  # fmt: skip
    assert found.models[0]["exams"]["sums"] == row["exams"]["sums"]


def test_an_exam_is_sat_again_once_an_item_has_changed(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["measure", "mine/model-a", "--world", "mine/examined.yaml", "--exams", "sums", *FEW]
    assert main([*command, "--out", "out"]) == 0
    assert main([*command, "--out", "out"]) == 0
    assert "model-a: done before" in capsys.readouterr().out
    items = Path("mine/tasks/items/sums.jsonl")
    try:
        small_world.write(items, SUMS[:6])
        assert main([*command, "--out", "out"]) == 0
    finally:
        small_world.write(items, SUMS)
    assert "model-a: again, since" in capsys.readouterr().out
    (row,) = json.loads(Path("out/measure.json").read_text("utf-8"))["models"]
    assert row["exams"]["sums"]["n"] == 6


WORLD: list[str] = ["--world", "mine/world.yaml"]
PROMPTS: list[str] = ["--prompts", "mine/test.jsonl"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([*PROMPTS, "--exams", "lambada"], "E773 .*items of the exam lambada are.*--exams lambada=FILE"),
        ([*PROMPTS, "--exams", "lambada=none.jsonl"], "E801 none.jsonl"),
        ([*PROMPTS, "--exams", "lamdba=mine/words.jsonl"], "E745 .*did you mean 'lambada'"),
        ([*PROMPTS, "--exams", "hellaswag=mine/words.jsonl"], "E20[3-7] .*words.jsonl:1"),
        ([*WORLD, "--exams", "lambada=mine/words.jsonl"],
         r"E773 .*write `exams: \{lambada: mine/words.jsonl\}` into mine/world.yaml, or give --prompts"),
        (["--world", "mine/examined.yaml", "--exams", "sum"], "E761 .*did you mean 'sums'"),
    ],
)  # fmt: skip
def test_exams_that_cannot_be_sat_are_said_before_a_model_loads(
    here: Path, options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["measure", "mine/model-a", *options, "--out", "out"]) != 0
    told = capsys.readouterr()
    assert re.search(said, (told.out + told.err).replace("\n", " ")), told.err
    assert not Path("out/stages").exists()


def _wide(name: str, judges: tuple[str, ...]) -> dict[str, Any]:
    one = {"mean": -123.4567, "ci95": [-234.5678, -100.0], "n": 9}
    share = {"win": 1.0, "tie": 0.0, "lose": 0.0}
    return {
        "name": name, "scores": dict.fromkeys(judges, one), "gain": {judges[0]: one},
        "battles": {judges[0]: share}, "kl": one, "perplexity": one, "length": one, "ended": one,
        "refused": one, "diversity": dict.fromkeys(("distinct_2", "self_bleu", "entropy"), one),
        "exams": dict.fromkeys(("truthfulqa_paper_mc2", "an_exam_of_a_very_long_name"), one),
        "tax": {"truthfulqa_paper_mc2": one},
    }  # fmt: skip


@pytest.mark.parametrize("judges", [("short",), ("s" * 40, "helpful", "harmless", "h" * 30)])
@pytest.mark.parametrize("name", ["m", "a-model-whose-name-says-everything-about-it"])
def test_no_table_is_wider_than_a_terminal_and_no_number_is_folded(
    name: str, judges: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    from rich.console import Console

    from trueup.measurement.printed import tables

    said = {"start": "other", "by": judges[0], "judges": judges, "models": [_wide(name, judges)]}
    console = Console(width=200)
    for table in tables(said):
        console.print(table)
    printed = capsys.readouterr().out
    assert max(map(len, (line.rstrip() for line in printed.splitlines()))) <= 80
    intervals, others = 5, len(judges) - 1
    assert printed.count("-123.457 [-234.568, -100.000]") == intervals
    assert printed.count("-123.457") == intervals + others
    assert printed.count("-12346%") == 2 and printed.count("-123.46") == 5
