"""Real files, written by others, are read with exact counts."""

from __future__ import annotations

from collections import Counter

import pytest

from shared_data import shared
from trueup.data import check, read

FILES = [
    ("hh_harmless/test_first_half.jsonl.gz", "hh", 1156, {"E402": 4, "E304": 2}),
    ("qa_feedback/dev_feedback.jsonl.gz", "ranking", 500, {}),
    ("formats/alpaca_en_demo.json", "alpaca", 100, {}),
    ("formats/dpo_en_demo.json", "sharegpt-preference", 100, {}),
    ("formats/kto_en_demo.json", "chat-unpaired", 100, {}),
    ("instruction_preference/pairs.jsonl.gz", "alpaca-preference", 1100, {"E401": 6}),
    ("self_instruct/seed_tasks.jsonl.gz", "self-instruct", 175, {}),
    ("lambada/first_200.jsonl.gz", "text", 200, {}),
    ("mbpp/sanitized.jsonl.gz", "prompts", 427, {}),
]


@pytest.mark.parametrize(("name", "format", "rows", "bad"), FILES, ids=[name for name, *_ in FILES])
def test_format_and_counts(name: str, format: str, rows: int, bad: dict[str, int]) -> None:
    report = check(shared(name))
    assert report.format == format
    assert report.counts.rows_in == rows
    assert report.counts.accepted == rows - sum(bad.values())
    assert Counter(problem.code for problem in report.problems) == bad


def test_hh_prompts_end_with_the_user_and_sides_differ() -> None:
    groups = read(shared("hh_harmless/test_first_half.jsonl.gz")).groups
    assert len(groups) == 1150
    assert all(str(group.prompt[-1].role) == "user" for group in groups)
    assert all("\n\nHuman:" not in c.text for group in groups for c in group.completions)
    first = groups[0]
    assert [str(m.role) for m in first.prompt] == ["user", "assistant", "user", "assistant", "user"]
    assert first.completions[0].text.startswith("No, sorry!  All of these involve a pen")


def test_qa_feedback_keeps_every_human_judgement() -> None:
    groups = read(shared("qa_feedback/dev_feedback.jsonl.gz")).groups
    choices = Counter(c.choice for group in groups for c in group.comparisons)
    assert choices == {"tie": 384, "a": 1577, "b": 1039}
    assert sum(len(group.pairs()) for group in groups) == 2616
    assert {len(group.completions) for group in groups} == {4}


def test_inner_fields_and_other_names_through_a_column_map() -> None:
    toxic = read(shared("realtoxicityprompts/first_500.jsonl.gz"), columns={"prompt": "prompt.text"})
    assert toxic.format == "prompts" and toxic.counts.accepted == 500
    maths = read(
        shared("gsm8k/train_first_1000.jsonl.gz"), columns={"prompt": "question", "completion": "answer"}
    )
    assert maths.format == "prompt-completion" and maths.counts.accepted == 1000
    ethics = read(shared("ethics/justice_train_first_2000.csv.gz"), columns={"prompt": "scenario"})
    assert ethics.counts.accepted == 2000 and set(ethics.groups[0].meta) == {"label"}
