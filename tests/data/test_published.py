"""Rows of public data sets become what they mean: who was preferred, by whom, and which steps are right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from data_rows import assistant, good_row, line, user
from trueup.annotate.unpaired import desirable
from trueup.data import check, read, write
from trueup.engine.groups import Group
from trueup.errors import TrueupError
from trueup.sources.files import demonstrations


def one(tmp_path: Path, row: dict[str, Any], **options: Any) -> Group:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(line(row))
    (group,) = read(path, **options).groups
    return group


def turns(group: Group) -> list[tuple[str, str]]:
    return [(str(message.role), message.content) for message in group.prompt]


def preferred(group: Group) -> tuple[str, str]:
    """The chosen text and the rejected one of the group's only pair."""
    (pair,) = group.pairs()
    return group.completions[pair.chosen].text, group.completions[pair.rejected].text


@pytest.mark.parametrize(
    ("shape", "prompt"),
    [
        ("orca", [("system", "be brief"), ("user", "question 7")]),
        ("helpsteer-preference", [("user", "question 7")]),
        ("helpsteer-preference numbered", [("user", "question 7")]),
        ("webgpt", [("user", "question 7")]),
        ("learn-to-summarize", [("text", "SUBREDDIT: r/tifu\nTITLE: t\nPOST: question 7\nTL;DR:")]),
        ("openai-preference", [("user", "question 7")]),
        ("arena", [("user", "question 7")]),
        ("arena flags", [("user", "question 7")]),
        ("rated", [("text", "question 7")]),
        ("rated ultrafeedback", [("user", "question 7")]),
    ],
)
def test_every_comparison_prefers_the_good_answer(
    shape: str, prompt: list[tuple[str, str]], tmp_path: Path
) -> None:
    group = one(tmp_path, good_row(shape, 7))
    assert turns(group) == prompt
    assert preferred(group) == ("good answer 7", "bad answer 7")


def test_who_wrote_who_judged_and_how_strongly(tmp_path: Path) -> None:
    group = one(tmp_path, good_row("learn-to-summarize", 0))
    assert [c.source for c in group.completions] == ["sup1", "ref"] and group.pairs()[0].labeler == "w"
    group = one(tmp_path, good_row("helpsteer-preference", 0))
    assert group.pairs()[0].strength == 2.0
    group = one(tmp_path, good_row("rated ultrafeedback", 0))
    assert [(c.source, s.value) for c, s in zip(group.completions, group.scores, strict=True)] == [
        ("x", 2.0),
        ("y", 9.0),
    ]
    group = one(tmp_path, good_row("helpsteer", 0))
    assert {s.judge: s.value for s in group.scores} == {"helpfulness": 3, "correctness": 4, "verbosity": 1}


@pytest.mark.parametrize(
    ("shape", "changes"),
    [
        ("helpsteer-preference", {"overall_preference": 0}),
        ("webgpt", {"score_0": 0.0, "score_1": 0.0}),
        ("arena", {"winner": "tie"}),
        ("arena flags", {"winner_model_a": 0, "winner_tie": 1}),
        ("rated", {"responses": [{"text": "a", "rank": 1}, {"text": "b", "rank": 1}]}),
    ],
)
def test_a_tie_is_no_pair(shape: str, changes: dict[str, Any], tmp_path: Path) -> None:
    assert one(tmp_path, {**good_row(shape, 0), **changes}).pairs() == ()


def test_both_bad_is_a_tie_of_two_bad_answers(tmp_path: Path) -> None:
    for word in ("tie (bothbad)", "both_bad"):
        group = one(tmp_path, {**good_row("arena", 0), "winner": word})
        assert group.pairs() == () and group.comparisons[0].choice == "tie"
        assert [c.marks["desirable"] for c in desirable(group).completions] == [-1.0, -1.0]
        assert demonstrations([group]) == []


def test_conversations_that_part_early_are_named(tmp_path: Path) -> None:
    sides = {
        f"conversation_{side}": [user("q"), assistant(side), user("and?"), assistant("so")] for side in "ab"
    }
    path = tmp_path / "rows.jsonl"
    path.write_bytes(line({**good_row("arena", 0), **sides}))
    (problem,) = check(path).problems
    assert (problem.code, problem.found) == ("E410", "4 and 4 turns")


def test_tools_inside_the_input_are_read(tmp_path: Path) -> None:
    row = good_row("openai-preference", 0)
    tools = [{"type": "function", "function": {"name": "add", "parameters": {}}}]
    group = one(tmp_path, {**row, "input": {**row["input"], "tools": tools}})
    assert json.loads(group.prompt[0].tools)[0]["function"]["name"] == "add"


def test_the_steps_of_a_solution_and_their_labels(tmp_path: Path) -> None:
    group = one(tmp_path, good_row("stepwise", 1))
    assert group.completions[0].text == "good answer 1\nbad answer 1"
    assert group.meta["steps"] == [
        [{"text": "good answer 1", "label": True}, {"text": "bad answer 1", "label": False}]
    ]
    assert demonstrations([group]) == [], "a wrong step is not imitated"
    assert len(demonstrations([one(tmp_path, good_row("stepwise", 0))])) == 1
    group = one(tmp_path, good_row("prm800k", 1))
    assert [(s["text"], s["label"]) for s in group.meta["steps"][0]] == [
        ("good answer 1", True),
        ("so 5", True),
        ("so 6", False),
    ]
    assert group.scores[0].value == 0.0
    neutral = {
        "question": {"problem": "q"},
        "label": {"steps": [{"completions": [{"text": "a", "rating": 0}]}]},
    }
    group = one(tmp_path, neutral)
    assert group.meta["steps"] == [[{"text": "a", "label": None}]] and group.scores[0].value == 1.0
    written = tmp_path / "groups.jsonl"
    write(written, [group])
    assert read(written).groups[0].meta == group.meta


def test_an_answer_that_a_file_calls_bad_is_not_imitated(tmp_path: Path) -> None:
    rows = [{"prompt": "q", "completion": text, "label": good} for text, good in (("yes", 1), ("no", 0))]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"".join(map(line, rows)))
    assert [g.completions[0].text for g in demonstrations(read(path).groups)] == ["yes"]


# ------------------------------------------------------------------------- what fits more than one format


FULL = {
    "prompt": "q",
    "prompt_id": "1",
    "chosen": [user("q"), assistant("good")],
    "rejected": [user("q"), assistant("bad")],
    "messages": [user("q"), assistant("good")],
    "score_chosen": 8.0,
    "score_rejected": 2.0,
}


def test_a_conversation_that_stands_there_twice_counts_once(tmp_path: Path) -> None:
    for needs in ((), ("comparisons", "reference"), ("demonstrations",)):
        group = one(tmp_path, FULL, needs=needs)
        assert preferred(group) == ("good", "bad")
        assert [c.text for c in demonstrations([group])[0].completions] == ["good"]


def test_what_is_needed_decides(tmp_path: Path) -> None:
    row = {**FULL, "messages": [user("other"), assistant("text")]}
    with pytest.raises(TrueupError, match="E204"):
        one(tmp_path, row)
    assert preferred(one(tmp_path, row, needs=("comparisons",))) == ("good", "bad")
    assert preferred(one(tmp_path, row, needs=("labels", "reference"))) == ("good", "bad")
    assert one(tmp_path, row, needs=("demonstrations",)).completions[0].text == "text"
    path = tmp_path / "rows.jsonl"
    assert "; of chat or preference it gives the comparisons" in read(path, needs=("comparisons",)).why


# --------------------------------------------------------------------------------------- cells and columns


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
@pytest.mark.parametrize(
    ("name", "sign", "first", "said"),
    [
        ("a.csv", ",", "", None),
        ("a.csv", ";", "", "cells are separated by semicolons"),
        ("a.csv", "\t", "", "cells are separated by tabs"),
        ("a.tsv", "\t", "", "cells are separated by tabs"),
        ("a.tsv", ";", "", "cells are separated by semicolons"),
        ("a.csv", ";", "sep=;", "cells are separated by semicolons"),
    ],
)
def test_delimiters(
    name: str, sign: str, first: str, said: str | None, bom: str, end: str, tmp_path: Path
) -> None:
    rows = [
        ["Prompt", "Chosen", "Rejected"],
        ["q", '"yes; it, is\tso ""x"""', "no"],
        ["r", '"two\nlines"', "no"],
    ]
    path = tmp_path / name
    text = bom + (first + end if first else "") + "".join(sign.join(row) + end for row in rows)
    path.write_bytes(text.encode())
    groups = read(path).groups
    assert [g.completions[0].text for g in groups] == ['yes; it, is\tso "x"', "two\nlines"]
    assert [g.prompt[0].content for g in groups] == ["q", "r"]
    notes = check(path).counts.notes
    assert (said in notes) == (said is not None)
    assert (
        "columns are read in small letters: Prompt as prompt, Chosen as chosen, Rejected as rejected" in notes
    )


def test_numbers_in_cells(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("question,answer_0,answer_1,score_0,score_1\nq,bad,good,-0.5,0.5\n")
    assert preferred(read(path).groups[0]) == ("good", "bad")
    path.write_text("prompt,response_1,response_2,preference_strength\nq,bad,good,2\nr,a,b,much\n")
    assert preferred(read(path, max_bad=0.5).groups[0]) == ("good", "bad")
    (problem,) = check(path).problems
    assert (problem.code, problem.field, problem.found) == ("E205", "preference_strength", '"much"')


def test_a_cell_too_many_names_the_delimiter(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("prompt;completion\nq;a\nr;b;c\n")
    (problem,) = check(path).problems
    assert problem.line == 3 and "hold semicolons or line breaks" in problem.remedy


def test_capitals_may_mean_something_beside_our_own_spelling(tmp_path: Path) -> None:
    group = one(tmp_path, {"prompt": "q", "completion": "a", "Label": "colour"})
    assert group.scores == () and group.meta == {"Label": "colour"}


# ----------------------------------------------------------------------------------- roles and their turns


def shared(*said: tuple[str, str]) -> dict[str, Any]:
    return {"conversations": [{"from": who, "value": text} for who, text in said]}


@pytest.mark.parametrize("who", ["gpt", "GPT", "chatgpt", "bing", "bard", "assistant", "claude", "model"])
def test_names_of_the_assistant_in_the_wild(who: str, tmp_path: Path) -> None:
    group = one(tmp_path, shared(("system", "s"), ("Human", "q"), (who, "a")))
    assert turns(group) == [("system", "s"), ("user", "q")] and group.completions[0].text == "a"


def test_a_role_of_ones_own_is_mapped(tmp_path: Path) -> None:
    row = shared(("narrator", "s"), ("Alice", "q"), ("Bob", "a"))
    path = tmp_path / "rows.jsonl"
    path.write_bytes(line(row))
    (problem,) = check(path).problems
    assert problem.remedy.endswith("or say which it is: --roles.narrator user or --roles.narrator assistant")
    group = one(tmp_path, row, roles={"narrator": "system", "alice": "user", "Bob": "assistant"})
    assert turns(group) == [("system", "s"), ("user", "q")] and group.completions[0].text == "a"
    with pytest.raises(TrueupError, match=r"E220 .*did you mean --roles.Bob assistant"):
        one(tmp_path, row, roles={"Bob": "asistant"})


@pytest.mark.parametrize(
    ("trim", "prompt", "answer"),
    [
        ("end", [("assistant", "hello"), ("user", "q")], "a"),
        ("both", [("user", "q")], "a"),
    ],
)
def test_turns_are_trimmed_when_asked(
    trim: str, prompt: list[tuple[str, str]], answer: str, tmp_path: Path
) -> None:
    row = shared(("gpt", "hello"), ("human", "q"), ("gpt", "a"), ("human", "thanks"))
    path = tmp_path / "rows.jsonl"
    path.write_bytes(line(row))
    (problem,) = check(path).problems
    assert problem.code == "E303" and "--trim end" in problem.remedy
    group = one(tmp_path, row, trim=trim)
    assert turns(group) == prompt and group.completions[0].text == answer


def test_trimming_leaves_a_prompt_and_a_conversation_without_an_answer_alone(tmp_path: Path) -> None:
    pairs = good_row("sharegpt-preference", 3)
    assert turns(one(tmp_path, pairs, trim="both")) == [("user", "question 3")]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(line(shared(("human", "q"))))
    assert check(path, trim="end").problems[0].code == "E302"
