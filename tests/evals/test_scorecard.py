"""What `trueup eval` makes of tasks: samples by name, groups of items, items that were cut."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval_stubs import random_table, tiny_model, uniform, view_of
from trueup.engine.groups import Completion, Group
from trueup.errors import TrueupError
from trueup.evals.answers import last_number, number_task
from trueup.evals.benchmarks import choice, items_of
from trueup.evals.entries import sampling_entries
from trueup.evals.evaluation import evaluate_on
from trueup.evals.papers import Paper, Shots, papers
from trueup.evals.printed import notes
from trueup.evals.scorecard import examiner, item_rows, rows_of, sit
from trueup.evals.task_files import find_task
from trueup.evals.tasks import SCORES, likelihood_task
from trueup.lab.tasks import TASKS
from trueup.sources.context import open_context
from trueup.sources.sample import Decoding
from trueup.worlds import open_world

DOCS = Path(__file__).parents[2] / "docs" / "evaluations.md"


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


# ------------------------------------------------------------------------------------------ sampling


@pytest.mark.parametrize(
    "name", [n for n in {**sampling_entries(), **TASKS} if not n.endswith("_overridden")]
)
def test_a_task_that_samples_is_on_its_page(name: str) -> None:
    entry = {**sampling_entries(), **TASKS}[name]
    assert (entry.read is None) != (entry.items is None) and entry.task.samples
    row = (
        f"| `{name}` | {entry.task.version} | {entry.about} | {entry.rows or 'no file'} | {entry.reference} |"
    )
    assert row in DOCS.read_text(encoding="utf-8")


def test_samples_are_saved_paired_and_shown_as_they_come(tmp_path: Path) -> None:
    requests = [{"prompt": f"ask {i}", "harmful": i % 2 == 0} for i in range(40)]
    path = write(tmp_path / "r.jsonl", requests)
    (paper,) = papers(["refusals"], data={"refusals": path}, max_new_tokens=3).values()
    seen: list[int] = []
    a = sit(examiner(view_of(tiny_model())), paper, 5, seen.append)
    b = sit(examiner(view_of(tiny_model(1))), paper, 5)
    assert seen == [32, 8]
    (row,), lines = rows_of(a, b, 5), item_rows(a, b)
    # Random bytes refuse nothing, so a harmless request is served and a harmful one is not refused.
    for line, request in zip(lines, requests, strict=True):
        (said,) = line["completions"]
        assert line["value"] == (said["refused"] if request["harmful"] else 1 - said["refused"])
    assert row["value"]["mean"] == pytest.approx(np.mean([line["value"] for line in lines]))
    gaps = [line["value"] - line["against_value"] for line in lines]
    assert row["difference"]["mean"] == pytest.approx(np.mean(gaps)) and row["difference"]["n"] == 40
    assert row["sampling"]["max_new_tokens"] == 3 and row["sampling"]["seed"] > 0
    texts = [line["completions"][0]["text"] for line in lines]
    assert texts != [line["against_completions"][0]["text"] for line in lines] and len(set(texts)) > 30
    again = item_rows(sit(examiner(view_of(tiny_model())), paper, 5))
    assert texts == [line["completions"][0]["text"] for line in again]


def test_the_number_is_the_last_one_and_compared_by_value() -> None:
    texts = ("so 5-3", "it is $1,200.50.", "18, I think", "-4 or so", "no number", "2. He has 18.00")
    numbers = [None if (n := last_number(text)) is None else str(n) for text in texts]
    assert numbers == ["3", "1200.50", "18", "-4", None, "18.00"] and last_number("18.00") == Decimal(18)
    sampling = number_task("t", 1, max_new_tokens=4, end="\n\n").sampling
    assert sampling is not None and sampling.decoding.greedy
    said = ("\n\n9 + 9 = 18\n#### 18\n\nQuestion: And 3?", "18.0", "19", "none")
    asked = [Group(prompt=(), completions=(Completion(text=t),), meta={"answer": "18"}) for t in said]
    assert sampling.grade(asked).values.tolist() == [1.0, 1.0, 0.0, 0.0]


def test_worked_answers_are_demonstrations_and_their_last_number_is_the_truth(tmp_path: Path) -> None:
    rows = [{"question": f"Q{i}?", "answer": f"{i} + 1 = {i + 1}\n#### {i + 1}"} for i in range(3)]
    path, pool = write(tmp_path / "q.jsonl", rows[:1]), write(tmp_path / "p.jsonl", rows[1:])
    shots = Shots(num=2, pools={"number_answer": pool})
    (paper,) = papers(["number_answer"], data={"number_answer": path}, shots=shots).values()
    (item,) = paper.draws[0]
    text = item.prompt[0].content
    assert item.meta["answer"] == "1" and text.endswith("\n\nQuestion: Q0?\nAnswer:")
    assert "Question: Q2?\nAnswer: 2 + 1 = 3\n#### 3\n\n" in text
    with pytest.raises(TrueupError, match=r"E206 q\.jsonl:1"):
        items_of(find_task("number_answer"), write(tmp_path / "q.jsonl", [{"question": "?", "answer": "?"}]))


@pytest.mark.parametrize(
    ("name", "more", "error"),
    [
        ("refusals", {}, r"E746 task refusals — .*prompt, harmful — give --data\.refusals FILE"),
        ("lab_refusals", {"data": {"lab_refusals": "x"}}, r"E746 task lab_refusals — .*the world's own"),
        ("lab_refusals", {"shots": Shots(num=1)}, r"E702 task lab_refusals — .*no demonstrations"),
        ("truth_mc1", {"max_new_tokens": 5}, r"E702 max_new_tokens"),
        ("refusal", {}, r"E745.*did you mean 'refusals'"),
    ],
)
def test_what_a_task_that_samples_does_not_take_is_refused(name: str, more: Any, error: str) -> None:
    with pytest.raises(TrueupError, match=error):
        papers([name], world=open_world("lab"), limit=1, **more)


# ------------------------------------------------------------------------------------------ groups of items


def test_an_exact_match_needs_every_item_of_a_group(tmp_path: Path) -> None:
    rows = [{"scenario": f"s{i}", "label": 1} for i in range(10)]
    path = write(tmp_path / "j.jsonl", rows)
    (paper,) = papers(["ethics_justice"], data={"ethics_justice": path}).values()
    a = sit(examiner(view_of(random_table())), paper)
    right = np.array([1, 1, 1, 1, 1, 0.5, 1, 1, 0, 0], np.float64)
    # Draw 1: (1, 1, 1, 1) and (1, ½, 1, 1), a tie is not right; draw 2 has all wrong. The last two are loose.
    a = replace(a, by_draw=np.stack([right, np.zeros(10)]))
    b = replace(a, by_draw=np.stack([right, right]))
    assert a.exact == {"j.jsonl:1": 0.5, "j.jsonl:5": 0.0}
    items, groups = rows_of(b, a)
    assert items["value"]["mean"] == pytest.approx(0.75) and items["items"] == 10
    assert (groups["task"], groups["items"], groups["left_out"]) == ("ethics_justice_exact", 2, 2)
    assert groups["value"]["mean"] == 0.5 and groups["difference"]["mean"] == 0.25
    assert groups["chance"] == 0.5**4
    assert [line.get("together") for line in item_rows(a)][3:9] == ["j.jsonl:1", *["j.jsonl:5"] * 4, None]


def test_rows_that_share_a_scenario_are_a_group_and_a_limit_cuts_none_in_two(tmp_path: Path) -> None:
    rows = [{"scenario": s, "excuse": "e", "label": 1} for s in "aaabbbba"]
    path = write(tmp_path / "d.jsonl", rows)
    task = find_task("ethics_deontology")

    def starts(limit: int | None) -> list[str | None]:
        return [item.meta.get("together") for item in items_of(task, path, limit=limit)]

    whole = [*["d.jsonl:1"] * 3, *["d.jsonl:4"] * 4, "d.jsonl:8"]
    assert starts(None) == whole and starts(7) == whole[:7]
    assert starts(5) == [*["d.jsonl:1"] * 3, None, None]


# ------------------------------------------------------------------------------------------ cut items


def test_items_that_do_not_fit_are_counted_and_said() -> None:
    items = [choice(text, [" xyz"], 0, id=text) for text in ("abcdef", "ab", "abcdefgh")]
    paper = Paper(task=likelihood_task("t", 1, SCORES["greedy"]), draws=[items])
    # BOS, 4 bytes of the choice, and 6, 2 or 8 bytes of the text, in 10 tokens.
    result = sit(examiner(view_of(uniform(), context=10)), paper)
    wide = sit(examiner(view_of(uniform(), context=99)), paper)
    (row,) = rows_of(result, wide)
    assert row["cut"] == {"items": 2, "context": 10} and row["against_cut"] == {"items": 0, "context": 99}
    assert [line.get("tokens_cut") for line in item_rows(result)] == [1, None, 3]
    told = notes(row, {"model": "m", "against": "o", "seed": 0})
    assert told[0] == "t: 2 of 3 items cut to 10 tokens for m" and not any("for o" in line for line in told)
    alone = notes(rows_of(result)[0], {"model": "m", "against": None, "seed": 0})
    assert alone[0] == "t: 2 of 3 items cut to 10 tokens"


def test_a_prompt_cut_to_leave_room_for_samples_is_counted_and_a_wider_one_forgets_it() -> None:
    item = choice("abcdefgh", [], 0)
    narrow, wide = view_of(tiny_model(), context=9), view_of(tiny_model())
    (drawn,) = narrow.sample([item], k=1, decoding=Decoding(max_new_tokens=4), seed=0)
    assert drawn.meta["tokens_cut"] == 4
    assert "tokens_cut" not in wide.encode([replace(drawn, prompt_tokens=None)])[0].meta


def test_dialogues_stand_before_the_model_s_items_alone() -> None:
    lead = open_context("lab:hhh", 4)
    found = evaluate_on("lab:base", ["truth_mc1"], against="lab:base", prefix=lead, limit=20).document
    (row,) = found["tasks"]
    assert [turn["role"] for turn in found["prefix"]] == ["user", "assistant"] * 4
    assert row["difference"]["mean"] > 0, "the lab's base answers truly under its prompt"
    same = evaluate_on("lab:base", ["truth_mc1"], against="lab:base", limit=20).document
    assert same["tasks"][0]["difference"]["mean"] == 0 and same["prefix"] == []
    with pytest.raises(TrueupError, match="E702"):
        evaluate_on("lab:base", ["truth_mc1"], engine="lm-eval", prefix=lead)
