"""Task files and what they make of rows: wording, truth, demonstrations, and the errors that name a row."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval_stubs import random_table, view_of
from shared_data import shared
from trueup.cli import main
from trueup.errors import TrueupError
from trueup.evals.benchmarks import choice, item_of, items_of, with_shots
from trueup.evals.likelihood import gather
from trueup.evals.papers import papers
from trueup.evals.rows import read_rows
from trueup.evals.scorecard import examiner, item_rows, rows_of, sit
from trueup.evals.task_files import find_task, shipped
from trueup.evals.templates import clean, render

DOCS = Path(__file__).parents[2] / "docs" / "evaluations.md"
QUESTION = {"question": "Which?", "choices": ["one", "two", "three"], "answer": "B"}


def texts(item: Any) -> list[str]:
    return [completion.text for completion in item.completions]


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_task_is_read_and_on_its_page(name: str) -> None:
    task = find_task(name)
    assert task.name == name
    row = f"| `{name}` | {task.version} | {task.about} | `{task.score}` | {task.reference} |"
    assert row in DOCS.read_text(encoding="utf-8")


def test_rows_of_benchmarks_are_worded() -> None:
    item = item_of(find_task("lambada"), {"text": "I am here,\n\nsaid Shane "}, where="x")
    assert (item.prompt[0].content, texts(item)) == ("I am here,\n\nsaid", [" Shane"])
    row = {
        "activity_label": "Cooking",
        "ctx_a": "Boil water [title] Wait.",
        "ctx_b": "then you",
        "endings": ["Pour [substeps] it.", "Stop.", "c", "d"],
        "label": "1",
    }
    item = item_of(find_task("hellaswag"), row, where="x")
    assert item.prompt[0].content == "Cooking: Boil water. Wait. Then you"
    assert (texts(item)[0], item.meta["answer"]) == (" Pour it.", 1)
    item = item_of(find_task("multiple_choice"), QUESTION, where="x")
    assert (item.prompt[0].content, texts(item)[1]) == ("Question: Which?\nAnswer:", " two")
    assert item.meta["answer"] == 1
    assert clean("a [title] b") == "a. b"


def test_a_pair_is_shown_in_both_orders_and_the_answer_follows() -> None:
    task = find_task("ethics_utilitarianism")
    items = items_of(task, str(shared("ethics/util_train_first_2000.csv.gz")), limit=200)
    swapped = np.array([item.meta["answer"] for item in items])
    assert 70 < swapped.sum() < 130
    assert items[3].id == "util_train_first_2000.csv.gz:4"
    better, worse = "I cooked breakfast.", "I cooked breakfast.  I threw it up after."
    first, second = (worse, better) if swapped[3] else (better, worse)
    assert items[3].prompt[0].content.startswith(f"Scenario 1: {first}\nScenario 2: {second}\n")
    assert texts(items[3]) == [" yes", " no"]


def test_no_shots_are_the_bare_query_and_shots_are_the_same_for_all_items() -> None:
    task = find_task("multiple_choice")
    rows = [{**QUESTION, "question": f"Q{i}", "answer": i % 3} for i in range(8)]
    items = [item_of(task, row, where=str(i)) for i, row in enumerate(rows)]
    assert with_shots(task, items[:2], items, 0, seed=0) == (items[:2], [])
    moved, shots = with_shots(task, items[:2], items, 3, seed=0)
    assert not {"0", "1"} & set(shots) and len(set(shots)) == 3
    fronts = {
        m.prompt[0].content.removesuffix(i.prompt[0].content) for m, i in zip(moved, items, strict=False)
    }
    assert len(fronts) == 1
    place = int(shots[0])
    begin = f"Question: Q{place}\nAnswer: {QUESTION['choices'][place % 3]}\n\n"
    assert fronts.pop().startswith(begin)
    assert with_shots(task, items[:2], items, 3, seed=0, draw=1)[1] != shots
    with pytest.raises(TrueupError, match="E828"):
        with_shots(task, items[:2], items, 7, seed=0)


def test_permuting_the_choices_permutes_the_prediction() -> None:
    task = find_task("multiple_choice")
    turned = {**QUESTION, "choices": ["two", "three", "one"], "answer": 0}
    view = view_of(random_table(4))
    a, b = (task.task().examine(view, [item_of(task, row, where="x")]) for row in (QUESTION, turned))
    assert a[1] is not None and b[1] is not None
    np.testing.assert_allclose(a[1].logprobs[0][[1, 2, 0]], b[1].logprobs[0], rtol=1e-12)
    assert a[0].tolist() == b[0].tolist()


def test_ranking_is_the_difference_of_the_verdicts() -> None:
    task = find_task("truthfulqa_ranking")
    row = {"question": "Why?", "mc1_targets": {"choices": ["a", "bb"], "labels": [0, 1]}}
    item = item_of(task, row, where="x")
    view = view_of(random_table(1))
    values, evidence = task.task().examine(view, [item])
    assert evidence is not None
    for k, text in enumerate(("a", "bb")):
        asked = f"Question: Why?\nProposed answer: {text}\nIs the proposed answer true or false?\nAnswer:"
        yes, no = gather(view, [choice(asked, [" True", " False"], 0)], "choices").logprobs[0]
        assert evidence.logprobs[0][k] == pytest.approx(yes - no, rel=1e-12)
    # The table sees one token back, which is the same after both: a tie, and half of it is right.
    assert evidence.logprobs[0][0] == evidence.logprobs[0][1]
    assert values[0] == 0.5


@pytest.mark.parametrize(
    ("row", "error"),
    [
        ({"question": "q", "choices": ["a"]}, r"E203 f\.jsonl:2 — `answer` is missing"),
        ({"question": None, "choices": ["a"], "answer": 0}, r"E206 f\.jsonl:2 — `question` is null"),
        ({"question": "q", "choices": ["a", "b"], "answer": 2}, r"E206 f\.jsonl:2 — `answer` is 2, with 2"),
        ({"question": "q", "choices": [], "answer": 0}, r"E207 f\.jsonl:2"),
        ({"question": "q", "choices": "ab", "answer": 0}, r"E205 f\.jsonl:2"),
    ],
)
def test_a_row_that_lacks_a_part_is_named(row: dict[str, Any], error: str, tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    path.write_text(json.dumps(QUESTION) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(TrueupError, match=error):
        items_of(find_task("multiple_choice"), str(path))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ("scoer: sum\n", "E711.*did you mean `score`"),
        ("query: '{question|last_wrod}'\n", "E715.*did you mean `last_word`"),
        ("query: '{question'\n", "E715.*brace"),
        ("query: x\nchoices: [a, b]\n", "E715.*`choices` or `each`"),
    ],
)
def test_task_files_are_read_strictly(change: str, error: str, tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_text(
        "name: t\nversion: 1\nabout: x\nreference: y\nscore: sum\neach: choices\nanswer: answer\n"
        + (change if "query" in change else "query: q\n" + change)
    )
    with pytest.raises(TrueupError, match=error):
        find_task(str(path))
    with pytest.raises(TrueupError, match=r"E745.*did you mean 'lambada'"):
        find_task("lambda")


def test_a_template_fills_places_and_keeps_braces() -> None:
    values = {"a.b": "word end", "n": 3}
    assert render("{{{a.b|last_word}}} {n}", values.__getitem__, "x") == "{end} 3"


def test_differences_are_paired_and_every_figure_follows_from_its_items(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    rows = [{**QUESTION, "question": f"q{i}", "answer": i % 3} for i in range(30)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (paper,) = papers(["multiple_choice"], data={"multiple_choice": str(path)}).values()
    a, b = (sit(examiner(view_of(random_table(seed))), paper) for seed in (0, 1))
    (row,), lines = rows_of(a, b), item_rows(a, b)
    assert row["value"]["mean"] == pytest.approx(np.mean([line["value"] for line in lines]))
    gaps = [line["value"] - line["against_value"] for line in lines]
    assert row["difference"]["mean"] == pytest.approx(np.mean(gaps))
    assert rows_of(a, a)[0]["difference"]["verdict"] == "no difference seen"
    right = [float(np.argmax(line["logprobs"]) == line["answer"]) for line in lines]
    assert right == [line["value"] for line in lines]
    with pytest.raises(TrueupError, match=r"E746.*--data\.lambada"):
        papers(["multiple_choice"], data={"multiple_choice": str(path), "lambada": "x"})


def test_the_command_compares_two_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["eval", "lab:base", "--tasks", "completion_choice,perplexity", "--limit", "2", "--json"]
    assert main([*arguments, "--against", "lab:base", "--out", str(tmp_path / "o")]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [row["task"] for row in document["tasks"]] == ["completion_choice", "perplexity"]
    assert all(row["difference"]["mean"] == 0 for row in document["tasks"])
    assert json.loads((tmp_path / "o" / "eval.json").read_text()) == document
    lines = (tmp_path / "o" / "items" / "perplexity.jsonl").read_text().splitlines()
    mean = np.mean([json.loads(line)["value"] for line in lines])
    assert document["tasks"][1]["value"]["mean"] == pytest.approx(mean)


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (gzip.compress(b"a,b\n" * 9)[:-9], r"E110 .*damaged or cut off"),
        (b"a,b", r"E110 .*Not a gzipped file"),
        (gzip.compress(b"a,b,c\n"), r"E203 rows.csv.gz:1 — 3 cells, 2 columns — name a CSV file"),
        (gzip.compress(b'a,"b" c\n'), r"E115 rows.csv.gz — not CSV: .* — double the quotes"),
        (gzip.compress(b"a,\xff\n"), r"E101 rows.csv.gz — not UTF-8"),
    ],
    ids=["cut", "not gzip", "cells", "quotes", "not UTF-8"],  # gzip writes the second into its bytes
)
def test_a_csv_file_that_cannot_be_read_is_said(held: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv.gz"
    path.write_bytes(held)
    with pytest.raises(TrueupError, match=said):
        items_of(find_task("ethics_utilitarianism"), str(path))


def test_a_file_that_the_system_refuses_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("{}\n")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(TrueupError, match=r"E102 .*cannot be read: Permission denied") as caught:
        list(read_rows(path))
    assert caught.value.exit_code == 66
